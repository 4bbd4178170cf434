//! Options of an overlay that libcontainer mounts, called by `mounts`.
//!
//! fsconfig(2) takes strings of up to 255 bytes, and libcontainer mounts through it. Podman's
//! `lowerdir=` names paths of more than a hundred bytes each, so a long one is handed over layer
//! by layer, as Linux 6.7 and later take it.

/// The longest value that fsconfig(2) takes, in bytes.
const LONGEST: usize = 255;

/// `options` with a `lowerdir=` that is too long in pieces.
pub(super) fn in_pieces(options: Vec<String>) -> Vec<String> {
    let mut result = Vec::with_capacity(options.len());
    for option in options {
        match option.strip_prefix("lowerdir=") {
            Some(layers) if layers.len() > LONGEST => {
                result.extend(split(layers).map(|layer| format!("lowerdir+={layer}")));
            }
            _ => result.push(option),
        }
    }
    result
}

/// The layers of a `lowerdir=`: colons part them, but for those after a backslash.
fn split(layers: &str) -> impl Iterator<Item = String> {
    let mut found = vec![String::new()];
    let mut characters = layers.chars();
    while let Some(character) = characters.next() {
        match (character, found.last_mut()) {
            (':', _) => found.push(String::new()),
            ('\\', Some(layer)) => layer.extend(characters.next()),
            (character, Some(layer)) => layer.push(character),
            (_, None) => {}
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::in_pieces;

    #[test]
    fn long_lists_of_layers_are_parted_and_short_ones_stay() {
        let words = |text: &[&str]| text.iter().map(ToString::to_string).collect::<Vec<_>>();
        let short = words(&["lowerdir=/a:/b", "private"]);
        assert_eq!(in_pieces(short.clone()), short);
        let path = "x".repeat(200);
        let long = vec![
            format!("lowerdir=/{path}:/b\\:{path}"),
            "private".to_owned(),
        ];
        assert_eq!(
            in_pieces(long),
            [
                format!("lowerdir+=/{path}"),
                format!("lowerdir+=/b:{path}"),
                "private".to_owned()
            ]
        );
    }
}
