//! The network around a node as a picture, in SVG.
//!
//! Where to draw what is [`layout`]'s, how it looks [`mod@draw`]'s. The picture has addresses, classes and costs: no names, no
//! endpoints, nothing of where a node is.

mod draw;
mod layout;
#[cfg(test)]
mod tests;

pub(crate) use draw::{Drawing, draw};
