//! The TUN device: opened by tun-rs, given its address and route over netlink.
//!
//! Address, routes and device live as long as the descriptor, so whatever ends the process also cleans up.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use byway_identity::Ipv6Range;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tun_rs::{AsyncDevice, DeviceBuilder};

use crate::OpenError;
use crate::device::{BATCH, Device};

/// A TUN device with an address and a route; all of it goes when this is dropped.
pub(crate) struct Tun {
    name: String,
    device: AsyncDevice,
    /// Where packets are read into before they get their own memory.
    scratch: Mutex<Box<[u8]>>,
}

/// What a TUN device should be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: Ipv6Addr,
    pub(crate) range: Ipv6Range,
    pub(crate) mtu: u16,
}

impl Tun {
    /// Packets that the kernel keeps for us: more only makes replies late.
    const QUEUE: u32 = 100;

    /// Creates the device, its address and its route, and sets it up.
    pub(crate) async fn open(setup: Setup<'_>) -> Result<Self, OpenError> {
        let step = |step: &'static str| {
            move |source: rtnetlink::Error| OpenError::from_netlink(setup.name, step, source)
        };
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(|source| OpenError::Setup {
            device: setup.name.into(),
            step: "open netlink",
            source,
        })?;
        let connection = tokio::spawn(connection);
        let _ended = AbortOnDrop(connection);

        if let Some(device) = rival(&netlink, setup).await.map_err(step("read the routes"))? {
            return Err(OpenError::Clash { device, range: setup.range.to_string() });
        }
        let device = DeviceBuilder::new()
            .name(setup.name)
            .mtu(setup.mtu)
            .enable(false)
            .build_async()
            .map_err(|source| OpenError::from_tun(setup.name, source))?;
        let index = device.if_index().map_err(|source| OpenError::from_tun(setup.name, source))?;

        netlink
            .address()
            .add(index, setup.address.into(), 128)
            .execute()
            .await
            .map_err(step("set the address"))?;
        // The ioctl for the queue wants root of the whole machine; netlink takes root of the namespace.
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).txqueuelen(Self::QUEUE).up().build();
        netlink.link().change(up).execute().await.map_err(step("set it up"))?;
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(setup.range.base(), setup.range.bits())
            .output_interface(index)
            .build();
        netlink.route().add(route).execute().await.map_err(step("add the route"))?;
        let scratch = Mutex::new(vec![0; usize::from(u16::MAX) + 1].into_boxed_slice());
        Ok(Self { name: setup.name.to_owned(), device, scratch })
    }
}

impl Device for Tun {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll_recv(&self, cx: &mut Context<'_>, batch: &mut Vec<Bytes>) -> Poll<io::Result<()>> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let length = ready!(self.device.poll_recv(cx, &mut scratch))?;
        batch.push(Bytes::copy_from_slice(&scratch[..length]));
        while batch.len() < BATCH {
            // An error shows again on the next call, when nothing else is in the batch.
            let Ok(length) = self.device.try_recv(&mut scratch) else { break };
            batch.push(Bytes::copy_from_slice(&scratch[..length]));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&self, cx: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        let Some(packet) = batch.front() else { return Poll::Ready(Ok(())) };
        let result = ready!(self.device.poll_send(cx, packet));
        batch.pop_front();
        Poll::Ready(result.map(drop))
    }
}

impl fmt::Debug for Tun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tun").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Another device that has a route into the range already, so that some addresses would go there and not to us.
///
/// A wider route, such as the default, is none: ours is the more specific one.
async fn rival(netlink: &Handle, setup: Setup<'_>) -> Result<Option<String>, rtnetlink::Error> {
    let mut routes = netlink.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build()).execute();
    let mut found = None;
    while let Some(route) = routes.try_next().await? {
        if let Some(index) = claims(&route, setup.range) {
            found = Some(index);
        }
    }
    let Some(index) = found else { return Ok(None) };
    let mut links = netlink.link().get().match_index(index).execute();
    let name = links.try_next().await.ok().flatten().and_then(|link| name_of(&link));
    Ok(Some(name.unwrap_or_else(|| format!("number {index}"))))
}

/// The device of `route`, if it leads a part of `range`, or all of it, elsewhere.
fn claims(route: &RouteMessage, range: Ipv6Range) -> Option<u32> {
    // The local table only has the host's own addresses, which the main table shows as well.
    if route.header.kind != RouteType::Unicast || route.header.table == LOCAL_TABLE {
        return None;
    }
    let mut destination = Ipv6Addr::UNSPECIFIED;
    let mut device = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = *address,
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let inside = range.contains(destination) && route.header.destination_prefix_length >= range.bits();
    device.filter(|_| inside)
}

/// The table of the host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u8 = 255;

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// Ends a task that serves a value which is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, device: u32) -> RouteMessage {
        let (base, bits) = to.split_once('/').unwrap();
        RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(base.parse().unwrap(), bits.parse().unwrap())
            .output_interface(device)
            .build()
    }

    #[test]
    fn routes_into_the_range_clash_and_wider_ones_do_not() {
        let range = "200::/7".parse().unwrap();
        assert_eq!(claims(&route("200::/7", 4), range), Some(4));
        assert_eq!(claims(&route("300:1::/64", 5), range), Some(5));
        assert_eq!(claims(&route("::/0", 4), range), None);
        assert_eq!(claims(&route("fc00::/7", 4), range), None);
        assert_eq!(claims(&route("200::/6", 4), range), None);
        let mut local = route("200::1/128", 4);
        local.header.table = LOCAL_TABLE;
        assert_eq!(claims(&local, range), None);
    }
}
