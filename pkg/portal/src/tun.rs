//! The TUN device: opened by tun-rs, given its address and route over netlink.
//!
//! Address, routes and device live as long as the descriptor, so whatever ends the process also cleans up.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use byway_fastpath::Offloads;
use byway_identity::Ipv6Range;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::OpenError;
use crate::queue::{Queue, Queues};

/// What a TUN device should be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: Ipv6Addr,
    pub(crate) range: Ipv6Range,
    pub(crate) mtu: u16,
    /// Whether super-packets and unfinished checksums are wanted, where the kernel has them.
    pub(crate) offload: bool,
    /// Queues, at least one.
    pub(crate) queues: usize,
}

impl Setup<'_> {
    /// Packets that the kernel keeps while no thread has its turn, which may last for milliseconds on a busy machine: small ones
    /// are lost beyond this. It is no place to wait in: who reads takes out more than leaves, into a queue that is fair and short.
    const QUEUE: u32 = 500;
    /// Most datagrams that one call sends.
    const SEGMENTS: u32 = 64;
    /// Most bytes that one call sends: what fits an IPv4 packet, less its headers.
    const TRAIN: u32 = 65_507;
    /// What a frame adds to a packet, and what its length is a multiple of on a path that carries more.
    const OVERHEAD: u32 = 32;
    const PADDING: u32 = 64;
    /// IPv6 and TCP headers with time stamps, which each segment of a super-packet has of its own.
    const HEADERS: u32 = 72;

    /// Longest super-packet whose frames one call sends, in bytes.
    fn gso_max_size(&self) -> u32 {
        let mtu = u32::from(self.mtu);
        let frame = (mtu + Self::OVERHEAD).next_multiple_of(Self::PADDING);
        let segments = (Self::TRAIN / frame).clamp(1, Self::SEGMENTS);
        segments * (mtu - Self::HEADERS) + Self::HEADERS
    }

    /// Creates the device, its address and its route, and sets it up. All of it goes when what is returned is dropped.
    pub(crate) async fn open(self) -> Result<Queues, OpenError> {
        let setup = self;
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
        let (device, offloads) = setup.create().map_err(|source| OpenError::from_tun(setup.name, source))?;
        let index = device.if_index().map_err(|source| OpenError::from_tun(setup.name, source))?;

        let mut address = netlink.address().add(index, setup.address.into(), 128);
        // Nobody else on this device can have the address, and until that has been looked for, programs could not use it.
        address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        address.execute().await.map_err(step("set the address"))?;
        // The ioctl for the queue wants root of the whole machine; netlink takes root of the namespace.
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).txqueuelen(Self::QUEUE).up().build();
        netlink.link().change(up).execute().await.map_err(step("set it up"))?;
        if offloads.checksum {
            // A kernel that knows no such limit has super-packets sent in two calls.
            let limits = LinkMessageBuilder::<LinkUnspec>::new()
                .index(index)
                .append_extra_attribute(LinkAttribute::GsoMaxSegs(Self::SEGMENTS))
                .append_extra_attribute(LinkAttribute::GsoMaxSize(setup.gso_max_size()))
                .build();
            let _ = netlink.link().change(limits).execute().await;
        }
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(setup.range.base(), setup.range.bits())
            .output_interface(index)
            .build();
        netlink.route().add(route).execute().await.map_err(step("add the route"))?;
        let queues = setup
            .descriptors(&device, offloads.checksum)
            .map_err(|source| OpenError::from_tun(setup.name, source))?;
        Ok(Queues::new(setup.name.to_owned(), queues, offloads))
    }

    /// With offloads if they are wanted and there; without them otherwise.
    fn create(&self) -> io::Result<(SyncDevice, Offloads)> {
        let build = |offload| {
            DeviceBuilder::new()
                .name(self.name)
                .mtu(self.mtu)
                .enable(false)
                .with(|builder| {
                    builder.offload(offload).multi_queue(self.queues > 1);
                })
                .build_sync()
        };
        if self.offload
            && let Ok(device) = build(true)
        {
            let offloads = Offloads { checksum: true, tso: device.tcp_gso(), uso: device.udp_gso() };
            return Ok((device, offloads));
        }
        Ok((build(false)?, Offloads::default()))
    }

    fn descriptors(&self, first: &SyncDevice, vnet: bool) -> io::Result<Vec<Queue>> {
        let queue = |device: &SyncDevice| -> io::Result<Queue> {
            device.set_nonblocking(true)?;
            Ok(Queue::new(device.as_fd().try_clone_to_owned()?, vnet))
        };
        let mut queues = vec![queue(first)?];
        for _ in 1..self.queues {
            queues.push(queue(&first.try_clone()?)?);
        }
        Ok(queues)
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
    fn a_super_packet_fits_one_call() {
        let setup = |mtu| Setup {
            name: "x",
            address: Ipv6Addr::UNSPECIFIED,
            range: Ipv6Range::default(),
            mtu,
            offload: true,
            queues: 1,
        };
        assert_eq!(setup(1_420).gso_max_size(), 44 * 1_348 + 72);
        for mtu in [1_280, 1_420, 1_452, 8_920, 65_475, 65_535] {
            let size = setup(mtu).gso_max_size();
            let segments = (size - 72).div_ceil(u32::from(mtu) - 72);
            assert!(segments <= 64 && size <= 65_536, "{mtu}: {size}");
            assert!(
                segments == 1 || segments * (u32::from(mtu) + 32).next_multiple_of(64) <= 65_507,
                "{mtu}: {size}"
            );
        }
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
