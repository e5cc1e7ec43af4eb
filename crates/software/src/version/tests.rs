//! The orders are total, and wishes mean what they say. That they are dpkg's and rpm's own orders, `tests/it` checks.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

/// Versions that differ little, which is where orders go wrong.
fn version() -> impl Strategy<Value = String> {
    ("([0-2]:)?", "[0-9][0-9a-cA-B.+~]{0,6}", "(-[0-9a-b.+~]{1,4})?")
        .prop_map(|(epoch, upstream, revision)| format!("{epoch}{upstream}{revision}"))
}

fn rpm_version() -> impl Strategy<Value = String> {
    ("([0-2]:)?", "[0-9a-cA-B._+~^]{1,7}", "(-[0-9a-b._~^]{1,4})?")
        .prop_map(|(epoch, version, release)| format!("{epoch}{version}{release}"))
}

fn in_order(manager: PackageManager, versions: [&str; 3]) -> Result<(), TestCaseError> {
    let order = |a: &str, b: &str| compare(manager, a, b).expect("versions");
    let [a, b, c] = versions;
    prop_assert_eq!(order(a, b), order(b, a).reverse());
    prop_assert_eq!(order(a, a), Ordering::Equal);
    if order(a, b).is_le() && order(b, c).is_le() {
        prop_assert!(order(a, c).is_le(), "{} <= {} <= {}", a, b, c);
        if order(a, b).is_lt() || order(b, c).is_lt() {
            prop_assert!(order(a, c).is_lt(), "{} .. {} .. {}", a, b, c);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn debians_order_is_total(a in version(), b in version(), c in version()) {
        in_order(PackageManager::Debian, [&a, &b, &c])?;
    }

    #[test]
    fn rpms_order_is_total(a in rpm_version(), b in rpm_version(), c in rpm_version()) {
        in_order(PackageManager::Rpm, [&a, &b, &c])?;
    }

    #[test]
    fn any_text_is_a_version_or_refused(text in drystone_hostile::text()) {
        for manager in [PackageManager::Debian, PackageManager::Rpm] {
            let _ = compare(manager, &text, "1.0");
        }
        let _ = Wish::parse(&text);
    }

    #[test]
    fn the_best_is_accepted_and_none_is_better(versions in prop::collection::vec(version(), 0..8)) {
        let wish = Wish::parse(">= 1.0, < 2").expect("conditions");
        let manager = PackageManager::Debian;
        let best = wish.best(manager, versions.iter().map(String::as_str));
        for version in &versions {
            if wish.accepts(manager, version).expect("versions") {
                let best = best.expect("there is one that is accepted");
                prop_assert!(compare(manager, version, best).expect("versions").is_le());
            }
        }
        prop_assert!(best.is_none_or(|best| wish.accepts(manager, best).expect("versions")));
    }
}

#[test]
fn debians_examples() {
    let ascending =
        ["1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0.1", "1.0a", "1.0+1", "1:0.1"];
    for pair in ascending.windows(2) {
        let order = compare(PackageManager::Debian, pair[0], pair[1]).expect("versions");
        // A letter sorts before what is no letter.
        let letters_first = pair == ["1.0.1", "1.0a"];
        assert_eq!(order, if letters_first { Ordering::Greater } else { Ordering::Less }, "{pair:?}");
    }
    assert!(compare(PackageManager::Debian, "1.0", "1.00").expect("versions").is_eq());
}

#[test]
fn rpms_examples() {
    let ascending = ["a", "1.0~rc1", "1.0", "1.0-1", "1.0-1.el9", "1.0^git1", "1.0.1", "1.0.a1"];
    for pair in ascending.windows(2) {
        let order = compare(PackageManager::Rpm, pair[0], pair[1]).expect("versions");
        let letters_first = pair == ["1.0.1", "1.0.a1"];
        assert_eq!(order, if letters_first { Ordering::Greater } else { Ordering::Less }, "{pair:?}");
    }
    assert!(compare(PackageManager::Rpm, "1.0", "1_0").expect("versions").is_eq());
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let long = "1".repeat(256);
    for (text, says) in [
        ("", "empty"),
        ("x:1.0", "epoch"),
        ("-1:1.0", "epoch"),
        ("4294967296:1", "epoch"),
        ("1.0-", "revision"),
        ("1.0 beta", "cannot be part"),
        ("1.0/2", "cannot be part"),
        ("v1.0", "digit"),
        (&long, "255"),
    ] {
        let error = DebianVersion::parse(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    for text in [">= ", ">", "~> 1.0", ">= 1.0, latest", ">= 1.0,,"] {
        assert!(Wish::parse(text).is_err(), "{text}");
    }
}

#[test]
fn wishes() {
    let deb = PackageManager::Debian;
    let accepts =
        |wish: &str, version| Wish::parse(wish).expect(wish).accepts(deb, version).expect("versions");
    assert!(accepts("", "0"));
    assert!(accepts("1.0", "1.0") && !accepts("1.0", "1.0-1"));
    assert!(accepts(">= 1.0, < 2", "1.9") && !accepts(">= 1.0, < 2", "2") && !accepts(">=1.0,!=1.5", "1.5"));
    let rpm = |wish: &str, version| {
        Wish::parse(wish).expect(wish).accepts(PackageManager::Rpm, version).expect("versions")
    };
    assert!(
        rpm("1.0", "1.0-7.el9") && rpm("= 1.0", "1.0-1") && !rpm("1.0-1", "1.0-2") && !rpm("!= 1.0", "1.0-3")
    );
}
