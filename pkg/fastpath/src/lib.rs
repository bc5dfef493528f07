//! Seals, opens, splits, merges and forwards batches of packets by table.
