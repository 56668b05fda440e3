//! Splits what Envoy writes into lines, and a line too long into pieces that can be read on their own: no
//! character and no escape of JSON is torn. What a line means is not known here.

/// A line may be this long in one piece. Longer ones are rare (a configuration at level debug), and
/// container runtimes tear lines of 16 KiB themselves.
pub(super) const LONGEST: usize = 8 * 1024;

/// Position of a piece in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PiecePosition {
    /// All of it.
    Whole,
    /// The beginning of one too long.
    First,
    /// Neither the first nor the last piece.
    Middle,
    /// The end of it.
    Last,
}

/// Bytes that do not end a line yet.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    pub(super) pending: Vec<u8>,
    torn: bool,
}

// === impl LineSplitter ===

impl LineSplitter {
    /// Every piece that is complete, without line ends.
    pub(super) fn complete(&mut self, mut each: impl FnMut(PiecePosition, &[u8])) {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        loop {
            let near = rest.get(..=LONGEST).unwrap_or(rest);
            if let Some(end) = near.iter().position(|&byte| byte == b'\n') {
                let (line, after) = rest.split_at(end);
                each(self.ended(), line.strip_suffix(b"\r").unwrap_or(line));
                rest = after.get(1..).unwrap_or_default();
            } else if rest.len() > LONGEST {
                let (piece, after) = rest.split_at(seam(near));
                each(if self.torn { PiecePosition::Middle } else { PiecePosition::First }, piece);
                self.torn = true;
                rest = after;
            } else {
                break;
            }
        }
        self.pending = rest.to_vec();
    }

    /// Passes on the rest at the end of the input.
    pub(super) fn rest(&mut self, each: impl FnOnce(PiecePosition, &[u8])) {
        let rest = std::mem::take(&mut self.pending);
        if self.torn || !rest.is_empty() {
            each(self.ended(), &rest);
        }
    }

    fn ended(&mut self) -> PiecePosition {
        if std::mem::take(&mut self.torn) { PiecePosition::Last } else { PiecePosition::Whole }
    }
}

/// Returns where a long line can be cut, within [`LONGEST`] bytes: between two characters, and between two escapes of JSON.
fn seam(line: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&first) = line.get(at) {
        let unit = match first {
            b'\\' if line.get(at + 1) == Some(&b'u') => 6,
            // The end of an object is one piece with the end of its last string.
            b'"' if line.get(at + 1) == Some(&b'}') => 2,
            b'\\' | 0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        if at + unit > LONGEST {
            break;
        }
        at += unit;
    }
    at.min(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces one by one; what comes out in all.
    fn check(fed: &[&str], expected: &[(PiecePosition, &str)]) {
        let mut pieces = LineSplitter::default();
        let mut seen = Vec::new();
        let mut note = |part, piece: &[u8]| seen.push((part, String::from_utf8(piece.to_vec()).unwrap()));
        for part in fed {
            pieces.pending.extend_from_slice(part.as_bytes());
            pieces.complete(&mut note);
        }
        pieces.rest(note);
        let seen: Vec<_> = seen.iter().map(|(part, piece)| (*part, piece.as_str())).collect();
        assert_eq!(seen, expected, "{fed:?}");
    }

    #[test]
    fn lines_come_out_whole() {
        use PiecePosition::Whole;
        check(&["one\ntwo\n"], &[(Whole, "one"), (Whole, "two")]);
        check(&["one\r\ntw", "o\n"], &[(Whole, "one"), (Whole, "two")]);
        check(&["no end"], &[(Whole, "no end")]);
        check(&["\n"], &[(Whole, "")]);
        check(&[], &[]);
        let longest = "x".repeat(LONGEST);
        check(&[&longest, "\n"], &[(Whole, &longest)]);
    }

    #[test]
    fn a_line_too_long_comes_out_in_pieces() {
        use PiecePosition::{First, Last, Middle, Whole};
        let piece = "x".repeat(LONGEST);
        check(&[&piece, "y\nz\n"], &[(First, &piece), (Last, "y"), (Whole, "z")]);
        check(&[&piece, &piece, "y"], &[(First, &piece), (Middle, &piece), (Last, "y")]);
    }

    #[test]
    fn no_character_and_no_escape_is_torn() {
        for unit in ["ü", "€", "😀", r"\n", r"\\", r"\u001b", r#""}"#] {
            for before in 1..=unit.len() {
                let first = "x".repeat(LONGEST - before);
                let fits = before == unit.len();
                let (head, tail) = if fits { (first.clone() + unit, "y") } else { (first.clone(), unit) };
                let tail = if fits { tail.to_owned() } else { format!("{tail}y") };
                let line = format!("{first}{unit}y\n");
                check(&[&line], &[(PiecePosition::First, &head), (PiecePosition::Last, &tail)]);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_go_through() {
        let pending = [0xff_u8, 0xf0, b'\\'].repeat(LONGEST);
        let mut pieces = LineSplitter { pending, ..LineSplitter::default() };
        let mut length = 0;
        pieces.complete(|_, piece| {
            assert!((1..=LONGEST).contains(&piece.len()), "{}", piece.len());
            length += piece.len();
        });
        pieces.rest(|_, piece| length += piece.len());
        assert_eq!(length, 3 * LONGEST);
    }
}
