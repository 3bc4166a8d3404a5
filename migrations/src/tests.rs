//! Planning against a chain in memory.
