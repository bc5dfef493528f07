//! What a router knows, for people to look at: none of it is needed to carry anything.

use byway_identity::Addr;

use crate::{Class, Cost, Hop, PathId, Plane};

/// What a router knows of the network around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The trees that this node has a place in; none for a protocol without trees.
    pub trees: Vec<Tree>,
    /// Nodes known by their address, this one and its neighbours included.
    pub nodes: Vec<Addr>,
    /// Links known, this node's own included; each once.
    pub links: Vec<KnownLink>,
}

/// This node's place in one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The plane that the tree spans.
    pub plane: Plane,
    /// Which of the plane's trees.
    pub index: u8,
    /// The node at the top, which may be this one.
    pub root: Addr,
    /// The neighbour above; `None` at the root, and while there is none.
    pub parent: Option<Hop>,
    /// Cost of the way to the root.
    pub cost: Cost,
    /// Labels of the links down from the root.
    pub coordinates: Vec<u16>,
    /// Neighbours that have this node as their parent.
    pub children: Vec<Hop>,
}

/// A link between two nodes, this one or others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLink {
    /// One end.
    pub a: Addr,
    /// The other end.
    pub b: Addr,
    /// What both ends say of the link.
    pub class: Class,
    /// What it costs.
    pub cost: Cost,
    /// Whether it leads from a child to its parent in some tree.
    pub in_tree: bool,
}

/// A whole way to some node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// What [`Constraint::disjoint_from`](crate::Constraint::disjoint_from) calls it, so that copies take different ways.
    pub id: PathId,
    /// The plane that it lies in.
    pub plane: Plane,
    /// Whether payloads take it now.
    pub in_use: bool,
    /// What it costs in all.
    pub cost: Cost,
    /// The links in their order, from this node to the target.
    pub steps: Vec<PathStep>,
}

/// One link of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// The node that the link leads to, if this node knows who it is.
    pub node: Option<Addr>,
    /// The link's class as its ends say.
    pub class: Class,
    /// What the link costs.
    pub cost: Cost,
}
