//! Routing as others do it, to hold our own protocols against.
//!
//! A model does what its original is described to do, as far as a comparison needs it, and no more: it signs nothing, though its
//! frames are as long as if it did, and no daemon can speak it.

mod single_tree;

pub use single_tree::SingleTree;
