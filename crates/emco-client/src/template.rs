//! Go templates over values.

use gotmpl::Template;
use serde_json::Value;

/// Iterations of all loops of a file together: far more than anybody writes by hand, and far less than would fill the memory.
const LOOPS: u64 = 100_000;

/// What Go prints for a value that is not there.
const NO_VALUE: &str = "<no value>";

/// Name of the template that the text is.
const FILE: &str = "file";

/// What follows it.
const LAST_WORD: &str = "the end";

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The values are no YAML.
    #[error("the values are no YAML: {0}")]
    Values(String),
    /// It is no template, or does not fit the values.
    #[error("the template cannot be carried out: {0}")]
    Template(String),
    /// What is begun in it is not ended, or more is ended than was begun.
    #[error("the template does not end what it begins: an {{{{end}}}} is missing, or there is one too many")]
    Ends,
    /// It prints a value that is not there.
    #[error("line {line} has a value that is not among the values given: {text}")]
    Missing {
        /// Line of the text that came out.
        line: usize,
        /// The line.
        text: String,
    },
}

/// The text that a template becomes with values, in YAML. Without values the text stays as it is, as `emcoctl` has it.
///
/// # Errors
/// [`TemplateError`] says what does not fit.
pub fn rendered(text: &str, values: Option<&str>) -> Result<String, TemplateError> {
    let Some(values) = values else { return Ok(text.to_owned()) };
    let values: Value = serde_saphyr::from_str_with_options(values, crate::yaml())
        .map_err(|error| TemplateError::Values(error.to_string()))?;
    let failed = |error: gotmpl::TemplateError| TemplateError::Template(error.to_string());
    let values = gotmpl::to_value(&values).map_err(failed)?;
    // The parser takes a missing `end` for one at the end of the text, and ends at one too many. Wrapped like this, both would keep the
    // last word from being said.
    let wrapped = format!("{{{{define {FILE:?}}}}}{text}{{{{end}}}}{LAST_WORD}");
    let template = Template::new("last word").max_range_iters(LOOPS).parse(&wrapped).map_err(failed)?;
    if template.execute_to_string(&values).map_err(failed)? != LAST_WORD {
        return Err(TemplateError::Ends);
    }
    let rendered = template.execute_template_to_string(FILE, &values).map_err(failed)?;
    let missing = rendered.lines().enumerate().find(|(_, line)| {
        let comment = line.trim_start().starts_with('#');
        !comment && line.contains(NO_VALUE)
    });
    match missing {
        Some((number, line)) => {
            Err(TemplateError::Missing { line: number + 1, text: line.trim().chars().take(200).collect() })
        }
        None => Ok(rendered),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: &str =
        "Project: p1\nClusters: [{Name: c1, Label: edge}, {Name: c2}]\nPort: 9031\nGac: false\n";

    #[test]
    fn templates_are_those_of_go() {
        let text = "{{- $project := .Project}}\n{{range $index, $cluster := .Clusters}}\n\
            {{- if $index}}---\n{{end -}}\nanchor: projects/{{$project}}/{{$cluster.Name}}\nport: {{$.Port}}\n\
            {{- if .Label}}\nlabel: {{.Label | printf \"%q\"}}\n{{- end}}\n{{end}}{{if .Gac}}gac{{end}}";
        let rendered = rendered(text, Some(VALUES)).unwrap();
        let lines: Vec<&str> = rendered.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "anchor: projects/p1/c1",
                "port: 9031",
                "label: \"edge\"",
                "---",
                "anchor: projects/p1/c2",
                "port: 9031",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        let said = |text: &str| rendered(text, Some(VALUES)).unwrap_err().to_string();
        assert!(said("a: 1\nname: {{.Nothing}}\n").starts_with("line 2 has a value that is not among"));
        assert!(said("{{.Project | nothing}}").starts_with("the template cannot be carried out"));
        for unbalanced in [
            "{{if .Project}}",
            "{{if .Gac}}a",
            "a{{end}}b",
            "{{range .Clusters}}a{{end}}{{end}}b",
            "{{with .Port}}{{if .}}a{{end}}",
        ] {
            assert!(said(unbalanced).contains("{{end}} is missing"), "{unbalanced}");
        }
        assert!(rendered("a{{else}}b", Some(VALUES)).is_err());
        assert!(rendered("x", Some("a: [")).unwrap_err().to_string().starts_with("the values are no YAML"));
        // Whoever asks whether something is there may do so, and comments may say what they like.
        assert_eq!(
            rendered("# {{.Nothing}}\n{{if .Nothing}}x{{end}}", Some(VALUES)).unwrap(),
            "# <no value>\n"
        );
        assert_eq!(rendered("{{.Project}}", None).unwrap(), "{{.Project}}");
    }

    #[test]
    fn loops_end() {
        let text = "{{range .A}}{{range $.A}}{{range $.A}}x{{end}}{{end}}{{end}}";
        let values = format!("A: [{}]", vec!["1"; 500].join(","));
        assert!(rendered(text, Some(&values)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in drystone_hostile::damaged_text([
            "{{range $i, $c := .Clusters}}{{if and $c.Name (gt $i 0)}}{{index $.Clusters 0 | printf \"%v\"}}{{end}}{{end}}",
            "{{define \"x\"}}{{.}}{{end}}{{template \"x\" .Project}}{{with .Port}}{{. | print}}{{else}}no{{end}}",
        ])) {
            let _ = rendered(&text, Some(VALUES));
        }
    }
}
