//! Command lines of unit files: quoting, escapes and variables as systemd.service(5) has them.

use std::collections::BTreeMap;

/// An `Exec…=` line, split into words; variables are filled in when it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// A failure does not count (`-` before the path).
    pub(super) ignore_failure: bool,
    /// Variables are left as they are (`:` before the path).
    literal: bool,
    /// Program and arguments.
    words: Vec<String>,
}

impl CommandLine {
    /// Splits a line.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let mut rest = line.trim();
        let (mut ignore_failure, mut literal) = (false, false);
        while let Some(first) = rest.chars().next() {
            match first {
                '-' => ignore_failure = true,
                ':' => literal = true,
                // Privileges: a host's units all run with full ones.
                '+' | '!' => {}
                '@' => return Err("the prefix @ (another argv[0]) is not supported".to_owned()),
                _ => break,
            }
            rest = &rest[1..];
        }
        let words = split(rest)?;
        if words.is_empty() {
            return Err("the command is empty".to_owned());
        }
        Ok(Self { ignore_failure, literal, words })
    }

    /// The argument vector, with variables from `environment`. `${NAME}` is replaced within a word; a word that is
    /// `$NAME` alone becomes as many words as its value has; `$$` is a dollar sign. Unknown variables are empty.
    pub(super) fn arguments(&self, environment: &BTreeMap<String, String>) -> Vec<String> {
        if self.literal {
            return self.words.clone();
        }
        let mut arguments = Vec::new();
        for word in &self.words {
            match word.strip_prefix('$').filter(|name| is_variable_name(name)) {
                Some(name) => {
                    let value = environment.get(name).map(String::as_str).unwrap_or_default();
                    arguments.extend(value.split_whitespace().map(str::to_owned));
                }
                None => arguments.push(substitute(word, environment)),
            }
        }
        arguments
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn substitute(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            result.push_str(environment.get(name).map(String::as_str).unwrap_or_default());
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// Splits text into words: blanks separate, single and double quotes hold together, a backslash escapes.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (_, '\\') => {
                let escaped = characters.next().ok_or("a backslash ends the line")?;
                word.get_or_insert_default().push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    's' => ' ',
                    other => other,
                });
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(line: &str) -> Vec<String> {
        let environment =
            [("OPTS", "-a  -b"), ("NAME", "x y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        CommandLine::parse(line).unwrap().arguments(&environment)
    }

    #[test]
    fn words_quotes_and_variables() {
        assert_eq!(run("/bin/x  a 'b c' \"d 'e'\" f\\ g \"\""), ["/bin/x", "a", "b c", "d 'e'", "f g", ""]);
        assert_eq!(
            run("/bin/x $OPTS ${NAME} --n=${NAME} $NONE ${NONE} $$5 a$b"),
            ["/bin/x", "-a", "-b", "x y", "--n=x y", "", "$5", "a$b"]
        );
        assert_eq!(run(":/bin/x $OPTS"), ["/bin/x", "$OPTS"]);
        assert!(CommandLine::parse("-/bin/false").unwrap().ignore_failure);
    }

    #[test]
    fn mistakes() {
        for (line, part) in
            [("", "empty"), ("- ", "empty"), ("/x 'a", "not closed"), ("/x a\\", "backslash"), ("@/x y", "@")]
        {
            assert!(CommandLine::parse(line).unwrap_err().contains(part), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_words_survive_quoting(words in prop::collection::vec("[ -~]{0,12}", 1..6)) {
            let line = words.iter().map(|w| format!("\"{}\"", w.replace('\\', "\\\\").replace('"', "\\\""))).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line).unwrap(), words);
        }

        #[test]
        fn any_text_is_handled(text in ".{0,60}") {
            if let Ok(line) = CommandLine::parse(&text) {
                line.arguments(&BTreeMap::new());
            }
        }
    }
}
