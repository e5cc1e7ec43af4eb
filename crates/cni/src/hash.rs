//! A stable hash for names: the same on every machine and in every version, unlike the standard library's.

/// FNV-1a with 64 bits over several byte strings; where one ends makes a difference.
pub(crate) fn fnv64(parts: &[&[u8]]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    // 0xff occurs in no UTF-8 text.
    parts.iter().fold(BASIS, |hash, part| part.iter().chain(&[0xff]).fold(hash, step))
}

#[cfg(test)]
mod tests {
    use super::fnv64;

    #[test]
    fn it_is_stable_and_sees_boundaries() {
        assert_eq!(fnv64(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64(&[b"a"]), fnv64(&[b"a"]));
        assert_ne!(fnv64(&[b"ab", b"c"]), fnv64(&[b"a", b"bc"]));
    }
}
