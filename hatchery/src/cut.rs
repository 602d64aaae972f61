//! A text that may be no longer than so many bytes.

/// Its beginning: at most so many bytes, and no character in part.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn no_character_is_cut_in_two() {
        for (bytes, begins) in [(0, ""), (1, "a"), (2, "a"), (3, "a\u{fc}"), (9, "a\u{fc}b")] {
            assert_eq!(beginning("a\u{fc}b", bytes), begins, "{bytes}");
        }
    }
}
