//! What passed and what did not, with the reason.

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Outgoing: no whole IPv6 packet.
    Malformed,
    /// Outgoing: from another address than this node's.
    ForeignSource,
    /// Outgoing: to a group, which the overlay does not carry.
    Group,
    /// Outgoing: to an address outside the range, or one that no node can have.
    OutsideRange,
    /// Outgoing: longer than the way carries whole.
    TooBig,
    /// Outgoing: too many packets wait for addresses to be found.
    HoldFull,
    /// Outgoing: nobody was found at the address.
    Unresolved,
    /// Outgoing: the node refused it.
    Refused,
    /// Outgoing: the destination is slower than its packets come.
    Busy,
    /// Inward: no whole IPv6 packet.
    InwardMalformed,
    /// Inward: not from the sender's own IPv6 address.
    InwardForeignSource,
    /// Inward: not to this node's IPv6 address.
    InwardForeignDestination,
    /// Inward: no rule and no flow lets it in.
    Denied,
    /// Inward: of a kind that never comes from afar.
    Never,
    /// Either: the device did not take it.
    Device,
}

/// Packets and bytes that passed, and drops by reason, since the portal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets handed to the node.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets from the node that went to the device.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// ICMPv6 errors sent to programs of this host.
    pub notices: u64,
    /// ICMPv6 errors that the rate limit kept back.
    pub notices_suppressed: u64,
    /// Addresses that the network was asked for.
    pub finds: u64,
    drops: [u64; Reason::ALL.len()],
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::ForeignSource,
        Self::Group,
        Self::OutsideRange,
        Self::TooBig,
        Self::HoldFull,
        Self::Unresolved,
        Self::Refused,
        Self::Busy,
        Self::InwardMalformed,
        Self::InwardForeignSource,
        Self::InwardForeignDestination,
        Self::Denied,
        Self::Never,
        Self::Device,
    ];

    /// The name in metrics; it never changes once released.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::ForeignSource => "foreign-source",
            Self::Group => "group",
            Self::OutsideRange => "outside-range",
            Self::TooBig => "too-big",
            Self::HoldFull => "hold-full",
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::InwardMalformed => "inward-malformed",
            Self::InwardForeignSource => "inward-foreign-source",
            Self::InwardForeignDestination => "inward-foreign-destination",
            Self::Denied => "denied",
            Self::Never => "never",
            Self::Device => "device",
        }
    }
}

impl Counters {
    /// How many packets were dropped for `reason`.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason as usize]
    }

    /// Every reason with its count.
    pub fn drops(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.dropped(reason)))
    }

    pub(crate) fn drop(&mut self, reason: Reason) {
        self.drop_many(reason, 1);
    }

    pub(crate) fn drop_many(&mut self, reason: Reason, number: u64) {
        self.drops[reason as usize] += number;
    }
}
