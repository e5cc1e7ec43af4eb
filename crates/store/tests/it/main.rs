//! Tests of the embedded store through its public contract, on real files.

#[cfg(test)]
mod basics;
