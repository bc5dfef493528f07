//! Links over IP: UDP.
