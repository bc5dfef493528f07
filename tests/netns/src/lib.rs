//! Hosts in network namespaces, and the wire between them.
