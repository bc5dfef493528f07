//! Why a portal does not open, or ends.

use std::io;

/// Why a portal could not be opened; each text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The process may not create or configure network devices.
    #[error(
        "no right to create the network device {0}: run as root, give the program CAP_NET_ADMIN \
         (setcap cap_net_admin+ep FILE), or go on without it (--no-portal)"
    )]
    Forbidden(String),
    /// The kernel has no TUN.
    #[error(
        "this system has no /dev/net/tun: load the module (modprobe tun), or go on without it (--no-portal)"
    )]
    NoTun,
    /// Another program has a device of this name.
    #[error(
        "the network device {0} exists already: stop what uses it, or choose another name (portal.device)"
    )]
    Busy(String),
    /// Another device has a route into the range.
    #[error(
        "the device {device} has a route into {range} already (Yggdrasil uses the same range, for one): \
         stop it, or choose another prefix (portal.prefix), the same on all nodes"
    )]
    Clash {
        /// The other device.
        device: String,
        /// The range that both want.
        range: String,
    },
    /// The node's address has no IPv6 form in the range.
    #[error("the address of this node has no IPv6 form; make another key (byway keygen)")]
    NoAddress,
    /// IPv6 needs 1,280 bytes.
    #[error("portal.mtu = {0} is too small: IPv6 needs 1280 bytes or more (0 lets the program choose)")]
    Mtu(u16),
    /// Something else the kernel refused.
    #[error("cannot {step} for the network device {device}: {source}")]
    Setup {
        /// Our device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl OpenError {
    /// What tun-rs says about `device`.
    pub(crate) fn from_tun(device: &str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(device.into()),
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoTun,
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy(device.into()),
            _ => Self::Setup { device: device.into(), step: "create it", source },
        }
    }

    /// What the kernel answers on netlink.
    pub(crate) fn from_netlink(device: &str, step: &'static str, source: rtnetlink::Error) -> Self {
        let source = match source {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden(device.into()),
            _ => Self::Setup { device: device.into(), step, source },
        }
    }
}

/// Why a running portal ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
    /// The device is gone, most likely because somebody deleted it.
    #[error("the network device is gone: {0}")]
    Device(#[source] io::Error),
}
