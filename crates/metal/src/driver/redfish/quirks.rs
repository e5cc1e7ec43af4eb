//! What makers' management controllers do differently, as data. Source: what Ironic and sushy found out over the years.

/// How the controllers of one maker want to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Part of `Manufacturer`, without regard to case.
    maker: &'static str,
    /// What a CD is called as a boot target, in order of preference.
    pub(super) cd_targets: &'static [&'static str],
    /// `BootSourceOverrideEnabled` is sent even where it is that already.
    pub(super) always_sends_enabled: bool,
    /// Mode, enabled and target of a boot override are sent together.
    pub(super) sends_boot_together: bool,
    /// The message by which it says that it cannot be changed while its host tests itself; it is asked again then.
    pub(super) busy_message: Option<&'static str>,
    /// A change of the boot mode shows only after the host was restarted by itself.
    pub(super) mode_takes_long: bool,
}

/// Whoever has no row of its own.
const USUAL: Quirks = Quirks {
    maker: "",
    cd_targets: &["Cd"],
    always_sends_enabled: false,
    sends_boot_together: false,
    busy_message: None,
    mode_takes_long: false,
};

const TABLE: [Quirks; 7] = [
    Quirks { maker: "supermicro", cd_targets: &["UsbCd", "Cd"], always_sends_enabled: true, ..USUAL },
    Quirks { maker: "ami", sends_boot_together: true, ..USUAL },
    Quirks { maker: "american megatrends", sends_boot_together: true, ..USUAL },
    Quirks { maker: "asrockrack", sends_boot_together: true, ..USUAL },
    Quirks { maker: "hpe", busy_message: Some("UnableToModifyDuringSystemPOST"), ..USUAL },
    Quirks { maker: "hewlett", busy_message: Some("UnableToModifyDuringSystemPOST"), ..USUAL },
    Quirks { maker: "dell", mode_takes_long: true, ..USUAL },
];

impl Quirks {
    /// Those of a maker.
    pub(super) fn of(manufacturer: Option<&str>) -> &'static Self {
        let name = manufacturer.unwrap_or_default().to_ascii_lowercase();
        // A short name must be a word of its own: `ami` is not part of `Gami`.
        let is_it = |maker: &str| {
            name.match_indices(maker).any(|(at, _)| {
                let before = name[..at].chars().next_back();
                before.is_none_or(|letter| !letter.is_alphanumeric())
            })
        };
        TABLE.iter().find(|row| is_it(row.maker)).unwrap_or(&USUAL)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn makers_are_known_by_their_names() {
        assert!(Quirks::of(Some("Supermicro")).always_sends_enabled);
        assert!(Quirks::of(Some("Super Micro Computer, Inc. (Supermicro)")).always_sends_enabled);
        assert!(Quirks::of(Some("Dell Inc.")).mode_takes_long);
        assert!(Quirks::of(Some("HPE")).busy_message.is_some());
        assert!(Quirks::of(Some("Hewlett Packard Enterprise")).busy_message.is_some());
        assert_eq!(Quirks::of(Some("Gami Systems")), &USUAL);
        assert_eq!(Quirks::of(None), &USUAL);
    }

    proptest! {
        #[test]
        fn any_name_has_a_row(name in "\\PC{0,30}") {
            prop_assert!(!Quirks::of(Some(&name)).cd_targets.is_empty());
        }
    }
}
