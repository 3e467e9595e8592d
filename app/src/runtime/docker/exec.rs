//! What a command prints, line by line, while it runs.

use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use futures_util::{Stream, StreamExt};

/// One line a command printed, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// On standard output.
    Out(&'a str),
    /// On standard error.
    Err(&'a str),
}

impl<'a> Line<'a> {
    /// The text, whichever stream it came on.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        match self {
            Self::Out(text) | Self::Err(text) => text,
        }
    }
}

/// All a command printed, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Exit code; 126 and 127 when there is no such program.
    pub code: i64,
}

impl Output {
    pub(super) fn push(&mut self, line: Line<'_>) {
        let (text, stream) = match line {
            Line::Out(text) => (text, &mut self.stdout),
            Line::Err(text) => (text, &mut self.stderr),
        };
        stream.push_str(text);
        stream.push('\n');
    }
}

/// Receives every line. Lines may be long, and are many: a collector prints one for every blob.
pub type OnLine<'a> = dyn FnMut(Line<'_>) + Send + 'a;

/// Reads until the command closes its output.
pub(super) async fn read_lines(
    mut output: impl Stream<Item = Result<LogOutput, EngineError>> + Unpin,
    on_line: &mut OnLine<'_>,
) -> Result<(), EngineError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await {
        match piece? {
            LogOutput::StdErr { message } => split(&mut err, &message, |line| on_line(Line::Err(line))),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                split(&mut out, &message, |line| on_line(Line::Out(line)));
            }
        }
    }
    if !out.is_empty() {
        on_line(Line::Out(&String::from_utf8_lossy(&out)));
    }
    if !err.is_empty() {
        on_line(Line::Err(&String::from_utf8_lossy(&err)));
    }
    Ok(())
}

/// Hands over the lines that `piece` completes; `rest` keeps what has no end yet.
fn split(rest: &mut Vec<u8>, piece: &[u8], mut on_line: impl FnMut(&str)) {
    for part in piece.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(part);
        if let Some(line) = rest.strip_suffix(b"\n") {
            on_line(&String::from_utf8_lossy(line));
            rest.clear();
        }
    }
}

/// An engine answers with an error when a container's own program is missing, and newer ones for any command; older
/// ones end the command with code 126 or 127.
pub(super) fn is_missing_program(error: &EngineError) -> bool {
    let EngineError::DockerResponseServerError { message, .. } = error else { return false };
    // `exec: "registry": executable file not found in $PATH`, `exec: "/bin/x": stat /bin/x: no such file …`
    message.contains("exec: \"")
        && (message.contains("executable file not found") || message.contains("no such file or directory"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn lines_are_whole_however_the_output_is_cut() {
        let out = |text: &'static str| Ok(LogOutput::StdOut { message: text.into() });
        let err = |text: &'static str| Ok(LogOutput::StdErr { message: text.into() });
        let pieces = [out("on"), err("warn"), out("e\n\ntwo\nth"), err("ing\n"), out("ree"), err("last")];
        let mut output = Output::default();
        read_lines(stream::iter(pieces), &mut |line| output.push(line)).await.unwrap();
        assert_eq!(output.stdout, "one\n\ntwo\nthree\n");
        assert_eq!(output.stderr, "warning\nlast\n");
    }
}
