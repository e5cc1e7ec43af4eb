//! Names of files.

/// Bytes of the longest name of a file or directory, as in Linux.
const LONGEST_PART: usize = 255;

/// Whether a name is a path inside of an archive, made of plain components that every file system takes. All of Drystone's archives are
/// judged by this.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str, longest: usize) -> Result<(), String> {
    if name.len() > longest {
        return Err(format!("the name has more than {longest} bytes"));
    }
    if name.starts_with('/') {
        return Err("the path is absolute".to_owned());
    }
    if name.contains('\\') {
        return Err("the name has a backslash".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Err("the name has control characters".to_owned());
    }
    if name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic() {
        return Err("the name has a drive".to_owned());
    }
    for part in name.split('/') {
        match part {
            "" => return Err("the path has an empty part".to_owned()),
            "." => return Err("the path has a part `.`".to_owned()),
            ".." => return Err("the path leads out of the archive".to_owned()),
            part if part.len() > LONGEST_PART => {
                return Err(format!("a part of the path has more than {LONGEST_PART} bytes"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The path that `reference` means in a file of `directory` (empty: the root): `.` and `..` are followed, but not out of the package.
pub fn resolve(directory: &str, reference: &str) -> Option<String> {
    if reference.is_empty()
        || reference.starts_with('/')
        || reference.contains('\\')
        || reference.contains("://")
    {
        return None;
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in reference.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for good in ["a", "Definitions/a b.yaml", "x/..y", "é/文"] {
            assert_eq!(check_name(good, 100), Ok(()), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../b", "a//b", "a/./b", "a\\b", "C:/x", "a\nb", "a/\0"] {
            assert!(check_name(bad, 100).is_err(), "{bad:?}");
        }
        assert!(check_name(&"a".repeat(101), 100).is_err());
        assert_eq!(check_name(&format!("a/{}", "b".repeat(255)), 1000), Ok(()));
        assert!(check_name(&format!("a/{}", "b".repeat(256)), 1000).is_err());
    }

    #[test]
    fn references_are_followed() {
        assert_eq!(resolve("Definitions", "../Files/x.img").as_deref(), Some("Files/x.img"));
        assert_eq!(resolve("Definitions", "a.yaml").as_deref(), Some("Definitions/a.yaml"));
        assert_eq!(resolve("", "./UserData/x.py").as_deref(), Some("UserData/x.py"));
        for outside in ["../../x", "/etc/passwd", "http://h/x", "file:///x", "..", ""] {
            assert_eq!(resolve("Definitions", outside), None, "{outside}");
        }
    }
}
