//! A world of nodes in one thread and virtual time.
