//! Bodies of the API: what goes over it as JSON. Sizes are bytes, durations milliseconds unless a name says otherwise,
//! times RFC 3339, addresses text.

use byway_identity::Addr;
use serde::{Deserialize, Serialize};

use crate::ManCon;

macro_rules! body {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
    };
}

body! {
    /// Overview of a daemon.
    Status {
        /// Address of the daemon's own node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Its IPv6 address in the overlay, if it has one.
        ipv6: Option<String>,
        /// Version of the daemon.
        version: String,
        /// When it started.
        started: String,
        /// The routing protocol.
        protocol: String,
        /// The network's name.
        network: String,
        /// Level of requests that carry none.
        mancon: ManCon,
        /// The user's own level: no request goes below it.
        floor: ManCon,
        /// Whether clear links are opened at all.
        direct: bool,
        /// Where it listens, as endpoints that can be given to others.
        endpoints: Vec<String>,
        /// Peers that are linked now.
        peers_up: usize,
        /// Peers that are configured.
        peers: usize,
        /// Nodes that it hosts, its own included.
        nodes: usize,
        /// The portal's device, if it is up.
        portal: Option<String>,
        /// The threads that move packets past the core; none: they all go through it.
        #[serde(default)]
        fast: Option<FastInfo>,
        /// The transports that are on, and how each is doing.
        #[serde(default)]
        transports: Vec<TransportInfo>,
        /// What is missing or wrong, in words, with the remedy.
        warnings: Vec<String>,
    }
}

body! {
    /// A transport that is on.
    TransportInfo {
        /// The scheme of its endpoints: `udp`, `tor`, …
        kind: String,
        /// `ready`, `starting` or `failing`; a failing one goes on trying.
        state: String,
        /// How far its start is, 0 to 100, where that is known.
        #[serde(default)]
        percent: Option<u8>,
        /// What it is doing, or why it fails and what helps, in words.
        #[serde(default)]
        detail: Option<String>,
        /// Where it listens, as endpoints that can be given to others.
        endpoints: Vec<String>,
    }
}

body! {
    /// How packets are moved past the core of a daemon.
    FastInfo {
        /// Threads that do.
        threads: usize,
        /// What the portal's device takes off them, of `checksum`, `tso` and `uso`.
        device: Vec<String>,
        /// What the sockets take off them, of `gso`, `gro` and `mmsg`.
        sockets: Vec<String>,
    }
}

body! {
    /// A peer to keep a link to.
    PeerSpec {
        /// Its address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Its petname.
        #[serde(default)]
        name: Option<String>,
        /// Where it can be reached; empty: it may only dial in.
        #[serde(default)]
        endpoints: Vec<String>,
        /// By what links to it may go, whoever dials: `udp`, `tls`, `tor`, …; empty: by all that are on.
        #[serde(default)]
        transports: Vec<String>,
        /// Keep it after a restart.
        #[serde(default)]
        save: bool,
    }
}

body! {
    /// A peer.
    PeerInfo {
        /// Its address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Its petname.
        name: Option<String>,
        /// Configured endpoints.
        endpoints: Vec<String>,
        /// `up`, `connecting` or `down`.
        state: String,
        /// Open links to it.
        links: usize,
        /// Why it is not up, in words.
        trouble: Option<String>,
    }
}

body! {
    /// A link to a peer, or one that is wanted and not open.
    LinkInfo {
        /// The peer.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        peer: Addr,
        /// Where the peer is, as an endpoint.
        endpoint: String,
        /// Family and kind.
        class: String,
        /// `active`: it carries what may go any way; `standby`: it is open, and carries what must go by its family or nothing;
        /// `none`: it is not open.
        #[serde(default)]
        role: String,
        /// `starting`, `up`, `degraded`, `suspect` or `blocked`.
        #[serde(default)]
        state: String,
        /// Seconds in that state.
        #[serde(default)]
        state_s: u64,
        /// Why it is not open, in words.
        #[serde(default)]
        why: Option<String>,
        /// Round-trip time, if measured.
        rtt_ms: Option<f64>,
        /// Share of probes lost, 0 to 1.
        loss: f64,
        /// Cost in milliseconds; of one that is not open, what is typical.
        cost_ms: f64,
        /// Largest frame carried whole.
        mtu: usize,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
        /// Seconds since it came up; 0: it is not open.
        up_s: u64,
    }
}

body! {
    /// A known route.
    RouteInfo {
        /// The node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        to: Addr,
        /// The plane.
        plane: String,
        /// The next hop.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        next: Addr,
        /// Family of the link to it.
        family: String,
        /// Family and kind of that link; its family alone while no such link is open.
        class: String,
        /// Hops, if known.
        hops: Option<u8>,
        /// Cost of the whole way in milliseconds.
        cost_ms: f64,
        /// How many ways to the node are known from end to end; 0: frames find theirs from hop to hop.
        paths: usize,
    }
}

body! {
    /// An end-to-end session.
    SessionInfo {
        /// The local node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        local: Addr,
        /// The remote node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        remote: Addr,
        /// The plane.
        plane: String,
        /// The cipher.
        cipher: String,
        /// Round-trip time, if measured.
        rtt_ms: Option<f64>,
        /// Seconds since its handshake.
        age_s: u64,
        /// Payloads sent.
        sent: u64,
        /// Payloads received.
        received: u64,
    }
}

body! {
    /// A node that the daemon hosts.
    NodeInfo {
        /// Its address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Its IPv6 address in the overlay, if it has one.
        ipv6: Option<String>,
        /// Whether it is the daemon's own.
        main: bool,
        /// Payloads waiting for a way.
        held: usize,
        /// Payloads waiting for the application.
        queued: usize,
        /// Payloads dropped because the application did not take them.
        dropped: u64,
    }
}

body! {
    /// The way to a node.
    Trace {
        /// The node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        to: Addr,
        /// The level that the way satisfies.
        mancon: ManCon,
        /// The plane that it lies in.
        plane: String,
        /// The hops of the way in use, nearest first, as far as they are known.
        hops: Vec<TraceHop>,
        /// Whether every hop is listed.
        complete: bool,
        /// Why not, in words.
        why: Option<String>,
        /// How many hops it is to the node, if known.
        distance: Option<u8>,
        /// Cost of the whole way in milliseconds.
        cost_ms: Option<f64>,
        /// Round-trip time of a ping over it in milliseconds, if it answered.
        rtt_ms: Option<f64>,
        /// Every way that is known from end to end, the one in use first. Empty: frames find theirs from hop to hop.
        paths: Vec<PathInfo>,
    }
}

body! {
    /// A way that is known from end to end.
    PathInfo {
        /// Whether messages take it now.
        in_use: bool,
        /// Its cost in milliseconds.
        cost_ms: f64,
        /// Its hops, nearest first.
        hops: Vec<TraceHop>,
    }
}

body! {
    /// One hop of a way.
    TraceHop {
        /// The node that it leads to; none: a node on the way that has not said who it is.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        addr: Option<Addr>,
        /// Family and kind of the link to it.
        class: String,
        /// Cost of that link in milliseconds.
        cost_ms: f64,
    }
}

body! {
    /// What a daemon knows of the network around it: addresses, and links between them. Not where any of them is.
    Map {
        /// The daemon's own node.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        addr: Addr,
        /// Its places in the trees of the routing protocol; none for a protocol without trees.
        trees: Vec<TreeInfo>,
        /// Nodes that are known, its own included.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        nodes: Vec<Addr>,
        /// Links that are known, each once, and both ends among the nodes.
        links: Vec<MapLink>,
        /// Whether more is known than fits what was asked for.
        cut: bool,
    }
}

body! {
    /// A link between two nodes of a map.
    MapLink {
        /// One end.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        a: Addr,
        /// The other end.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        b: Addr,
        /// Family and kind, as both ends say.
        class: String,
        /// Cost in milliseconds.
        cost_ms: f64,
        /// Whether it leads from a node to its parent in some tree.
        in_tree: bool,
    }
}

body! {
    /// A node's place in one tree.
    TreeInfo {
        /// The plane that the tree spans.
        plane: String,
        /// Which of the plane's trees.
        index: u8,
        /// The node at the top, which may be the node itself.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        root: Addr,
        /// The neighbour above; none at the root, and while there is none.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        parent: Option<Addr>,
        /// Family of the link to it.
        family: Option<String>,
        /// Cost of the way to the root in milliseconds.
        cost_ms: f64,
        /// Labels of the links down from the root: where the node is in the tree.
        coordinates: Vec<u16>,
        /// Neighbours below.
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
        children: Vec<Addr>,
    }
}
