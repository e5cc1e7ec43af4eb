//! How many instances there are, and how that changes.

use std::collections::BTreeMap;

use super::flavour::{Aspect, Flavour, Vdu};

/// Which way something is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More instances: SOL003's SCALE_OUT.
    Out,
    /// Fewer: SCALE_IN.
    In,
}

/// Why there is no such size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// The instantiation level is not defined.
    #[error("the flavour `{flavour}` has no instantiation level `{level}`; it has {known}")]
    Level {
        /// The flavour.
        flavour: String,
        /// What was asked for.
        level: String,
        /// What there is.
        known: String,
    },
    /// The aspect is not defined.
    #[error("the flavour `{flavour}` has no scaling aspect `{aspect}`; it has {known}")]
    Aspect {
        /// The flavour.
        flavour: String,
        /// What was asked for.
        aspect: String,
        /// What there is.
        known: String,
    },
    /// The level would not be between 0 and the highest.
    #[error(
        "scaling `{aspect}` by {steps} from level {from} leads out of its levels, 0 to {most}; choose fewer steps"
    )]
    Range {
        /// The aspect.
        aspect: String,
        /// Where it is.
        from: u32,
        /// How far it was to go; negative for scaling in.
        steps: i64,
        /// The highest level.
        most: u32,
    },
}

impl Flavour {
    /// Instances of each VDU at an instantiation level, or at the default one.
    ///
    /// # Errors
    /// If the level is not defined.
    pub fn counts(&self, level: Option<&str>) -> Result<BTreeMap<String, u32>, LevelError> {
        let Some(name) = level.or(self.default_level.as_deref()) else {
            return Ok(self.counts_at(&BTreeMap::new()));
        };
        let scale = self.scale_levels(Some(name))?;
        let counts = self.vdus.iter().map(|(vdu_name, vdu)| {
            let stated = vdu.at_level.get(name).copied();
            (vdu_name.clone(), stated.unwrap_or_else(|| self.count_at(vdu, &scale)))
        });
        Ok(counts.collect())
    }

    /// Levels of all aspects at an instantiation level, or at the default one. Aspects that it does not name are at 0.
    ///
    /// # Errors
    /// If the level is not defined.
    pub fn scale_levels(&self, level: Option<&str>) -> Result<BTreeMap<String, u32>, LevelError> {
        let mut scale: BTreeMap<String, u32> =
            self.aspects.keys().map(|aspect| (aspect.clone(), 0)).collect();
        if let Some(name) = level.or(self.default_level.as_deref()) {
            let level = self.levels.get(name).ok_or_else(|| LevelError::Level {
                flavour: self.id.clone(),
                level: name.to_owned(),
                known: list(self.levels.keys()),
            })?;
            scale.extend(level.scale.iter().map(|(aspect, level)| (aspect.clone(), *level)));
        }
        Ok(scale)
    }

    /// Instances of each VDU while aspects are at the given levels (those that are not named at 0), by their deltas.
    pub fn counts_at(&self, scale: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
        self.vdus.iter().map(|(name, vdu)| (name.clone(), self.count_at(vdu, scale))).collect()
    }

    /// Instances of a VDU while aspects are at the given levels, by its deltas.
    pub(super) fn count_at(&self, vdu: &Vdu, scale: &BTreeMap<String, u32>) -> u32 {
        scale.iter().fold(vdu.initial, |count, (aspect_name, level)| {
            let Some(aspect) = self.aspects.get(aspect_name) else { return count };
            // Levels can be as many as a number can be large; a uniform step is not counted one by one.
            let more = match aspect.step_deltas.as_slice() {
                [uniform] => step(vdu, aspect_name, uniform).saturating_mul(*level),
                _ => (0..*level)
                    .map_while(|from| delta(aspect, from))
                    .fold(0, |sum, delta| u32::saturating_add(sum, step(vdu, aspect_name, delta))),
            };
            count.saturating_add(more)
        })
    }

    /// How many instances of each VDU come (or, negative, go) when an aspect is scaled by some steps. VDUs that stay as they are are left out.
    ///
    /// # Errors
    /// If the aspect is not defined, or the steps lead out of its levels.
    pub fn scale(
        &self,
        aspect_name: &str,
        from: u32,
        steps: u32,
        direction: Direction,
    ) -> Result<BTreeMap<String, i64>, LevelError> {
        let aspect = self.aspects.get(aspect_name).ok_or_else(|| LevelError::Aspect {
            flavour: self.id.clone(),
            aspect: aspect_name.to_owned(),
            known: list(self.aspects.keys()),
        })?;
        let (to, signed) = match direction {
            Direction::Out => {
                (from.checked_add(steps).filter(|to| *to <= aspect.max_level), i64::from(steps))
            }
            Direction::In => (from.checked_sub(steps), -i64::from(steps)),
        };
        let to = to.filter(|_| steps > 0).ok_or_else(|| LevelError::Range {
            aspect: aspect_name.to_owned(),
            from,
            steps: signed,
            most: aspect.max_level,
        })?;
        let count = |vdu: &Vdu, level: u32| {
            i64::from(self.count_at(vdu, &BTreeMap::from([(aspect_name.to_owned(), level)])))
        };
        let changes = self.vdus.iter().filter_map(|(name, vdu)| {
            let change = count(vdu, to) - count(vdu, from);
            (change != 0).then(|| (name.clone(), change))
        });
        Ok(changes.collect())
    }
}

/// The delta by which an aspect steps out of a level.
fn delta(aspect: &Aspect, from: u32) -> Option<&String> {
    aspect.step_deltas.get(from as usize)
}

fn step(vdu: &Vdu, aspect: &str, delta: &str) -> u32 {
    vdu.deltas.get(aspect).and_then(|deltas| deltas.get(delta)).copied().unwrap_or_default()
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavour() -> Flavour {
        let mut flavour = Flavour { id: "simple".to_owned(), ..Flavour::default() };
        let aspect = |max_level, deltas: &[&str]| Aspect {
            max_level,
            step_deltas: deltas.iter().map(|&delta| delta.to_owned()).collect(),
            ..Aspect::default()
        };
        flavour.aspects.insert("even".to_owned(), aspect(4, &["one"]));
        flavour.aspects.insert("odd".to_owned(), aspect(3, &["one", "five", "one"]));
        let deltas = BTreeMap::from([("one".to_owned(), 1), ("five".to_owned(), 5)]);
        let worker = Vdu {
            initial: 2,
            deltas: BTreeMap::from([("even".to_owned(), deltas.clone()), ("odd".to_owned(), deltas)]),
            ..Vdu::default()
        };
        flavour.vdus.insert("worker".to_owned(), worker);
        flavour.vdus.insert("master".to_owned(), Vdu { initial: 1, ..Vdu::default() });
        flavour
    }

    #[test]
    fn steps_add_their_deltas() {
        let flavour = flavour();
        let change = |aspect, from, steps, direction| {
            flavour.scale(aspect, from, steps, direction).map(|change| change["worker"])
        };
        assert_eq!(change("even", 0, 3, Direction::Out), Ok(3));
        assert_eq!(change("even", 4, 2, Direction::In), Ok(-2));
        assert_eq!(change("odd", 0, 2, Direction::Out), Ok(6));
        assert_eq!(change("odd", 2, 1, Direction::In), Ok(-5));
        assert_eq!(flavour.counts(None).unwrap()["worker"], 2);
        let scale = BTreeMap::from([("even".to_owned(), 1), ("odd".to_owned(), 3)]);
        assert_eq!(flavour.counts_at(&scale)["worker"], 10);
    }

    #[test]
    fn out_of_range() {
        let flavour = flavour();
        for (from, steps, direction) in [
            (4, 1, Direction::Out),
            (0, 5, Direction::Out),
            (1, 2, Direction::In),
            (0, u32::MAX, Direction::Out),
            (1, 0, Direction::Out),
        ] {
            let error = flavour.scale("even", from, steps, direction).unwrap_err();
            assert!(matches!(error, LevelError::Range { most: 4, .. }), "{error}");
        }
        let error = flavour.scale("width", 0, 1, Direction::Out).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the flavour `simple` has no scaling aspect `width`; it has `even`, `odd`"
        );
        let error = flavour.counts(Some("large")).unwrap_err();
        assert_eq!(error.to_string(), "the flavour `simple` has no instantiation level `large`; it has none");
    }
}
