//! Who works here, for whoever looks later at what they did.

/// By what they say, or by their login; else by the id of their user, as in a container, where nobody logs in.
pub fn who(said: Option<&str>) -> String {
    named(said, |name| std::env::var(name).ok())
}

/// What `--by` takes: a name that somebody can be asked by.
pub fn parse_name(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    match text.chars().count() {
        1..=100 => Ok(text.to_owned()),
        _ => Err("1 to 100 characters"),
    }
}

fn named(said: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let set = names.iter().filter_map(|name| variable(name));
    let mut login = set.filter(|name| !name.is_empty());
    let by = said.map(str::to_owned).or_else(|| login.next());
    by.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_something_to_read() {
        assert_eq!(parse_name(" anna "), Ok("anna".to_owned()));
        for none in ["", "  ", &"a".repeat(101)] {
            assert!(parse_name(none).is_err(), "{none:?}");
        }
    }

    #[test]
    fn somebody_is_named_by_what_they_say_by_their_login_or_by_the_id_of_their_user() {
        let logged_in = |name: &str| match name {
            "USER" => Some(String::new()),
            "LOGNAME" => Some("olga".to_owned()),
            _ => None,
        };
        assert_eq!(named(Some("anna"), logged_in), "anna");
        assert_eq!(named(None, logged_in), "olga");
        let nobody = named(None, |_| None);
        let id = nobody.strip_prefix("uid ").unwrap();
        assert!(id.parse::<u32>().is_ok(), "{nobody}");
    }
}
