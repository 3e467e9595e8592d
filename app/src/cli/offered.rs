//! The command line as help and completions show it: each verb with the options that mean something to it.

use clap::{Arg, ArgMatches, Command, CommandFactory as _, Error, FromArgMatches as _};

use super::arguments::Arguments;

/// Options that only these verbs take. Elsewhere they are refused with a hint, and not shown.
const TAKEN_BY: [(&str, &[&str]); 4] = [
    ("repo", &["run", "plan"]),
    ("always_collect", &["run", "apply"]),
    ("over_limits", &["run", "apply"]),
    ("yes", &["run"]),
];

/// Options that these verbs have no use for.
const NOT_TAKEN_BY: [(&str, &[&str]); 5] = [
    ("config", &["demo", "completions", "man"]),
    ("registry", &["demo", "completions", "man"]),
    ("state_dir", &["demo", "completions", "man"]),
    ("log_file", &["demo", "completions", "man"]),
    ("output", &["demo", "completions", "man"]),
];

/// Reads the command line.
///
/// # Errors
/// When it cannot be meant, or help was asked for.
pub fn parse() -> Result<Arguments, Error> {
    let mut matches: ArgMatches = command().try_get_matches()?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))
}

/// The command line. An option that a verb does not take is one of its own there, hidden; what is said of it is read all the same.
pub fn command() -> Command {
    let whole = Arguments::command();
    let options: Vec<Arg> = whole.get_arguments().filter(|option| option.is_global_set()).cloned().collect();
    whole.mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        let hidden = options.iter().filter(|option| !is_taken(option.get_id().as_str(), &name));
        hidden.fold(verb, |verb, option| verb.arg(option.clone().hide(true)))
    })
}

fn is_taken(option: &str, verb: &str) -> bool {
    let verbs = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(of, _)| *of == option).map(|(_, verbs)| verbs.contains(&verb))
    };
    verbs(&TAKEN_BY).unwrap_or(true) && !verbs(&NOT_TAKEN_BY).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(verb: &str) -> String {
        let mut command = command();
        command.build();
        command.find_subcommand_mut(verb).unwrap().render_long_help().to_string()
    }

    #[test]
    fn a_verb_shows_the_options_that_mean_something_to_it_and_no_others() {
        for (verb, shown, hidden) in [
            ("run", ["--repo", "--yes"], ["--plan", "--all "]),
            ("plan", ["--repo", "--config"], ["--yes", "--over-limits"]),
            ("apply", ["--over-limits", "--always-collect"], ["--yes", "--repo"]),
            ("gc", ["--storage", "--registry "], ["--repo", "--always-collect"]),
            ("demo", ["--keep", "--help"], ["--config", "--yes"]),
        ] {
            let help = help(verb);
            shown.iter().for_each(|option| assert!(help.contains(option), "{verb}: {option}\n{help}"));
            hidden.iter().for_each(|option| assert!(!help.contains(option), "{verb}: {option}\n{help}"));
        }
    }

    #[test]
    fn what_is_hidden_is_read_before_and_after_the_verb() {
        for line in ["clean-registry --repo a undo", "clean-registry undo --repo a"] {
            let mut matches = command().try_get_matches_from(line.split(' ')).unwrap();
            let arguments = Arguments::from_arg_matches_mut(&mut matches).unwrap();
            assert_eq!(arguments.repo.as_deref(), Some("a"), "{line}");
        }
    }
}
