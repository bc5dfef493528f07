//! Routing by flooded, signed beacons: small networks, and the yardstick.
