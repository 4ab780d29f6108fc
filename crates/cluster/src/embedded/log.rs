//! Reads what containers wrote, and goes on as long as they run.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream;
use rustix::fs::inotify::WatchFlags;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::notice::{Notice, first_end};
use super::process::Process;
use super::sandbox::Sandbox;
use super::store::{self, Store};
use super::{meta, pod};
use crate::error::ClusterError;
use crate::port::{LogOptions, Object};

const CHUNK_BYTES: usize = 64 * 1024;

/// A log and the process that writes it.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    writer: Option<Process>,
}

/// Finds the log that is asked for.
pub(super) fn find(
    store: &Store,
    object: &Object,
    pod: &Value,
    container: &str,
    options: &LogOptions,
) -> Result<Source, ClusterError> {
    let invalid = |message: String| ClusterError::Invalid { object: object.clone(), message };
    let lists = ["/spec/containers", "/spec/initContainers"].into_iter();
    if !lists.flat_map(|list| meta::items(pod, list)).any(|spec| spec["name"] == *container) {
        return Err(invalid(format!("container {container} is not valid for pod {}", meta::name(pod))));
    }
    let sandbox = Sandbox::of(store.root(), pod);
    let record = pod::record_of(&sandbox, container)?;
    let attempt = if options.previous {
        let missing = || {
            invalid(format!(
                "previous terminated container \"{container}\" in pod \"{}\" not found",
                meta::name(pod)
            ))
        };
        record.attempt.checked_sub(1).ok_or_else(missing)?
    } else {
        record.attempt
    };
    let mut path = sandbox.log(container, attempt);
    if !path.exists() && !options.previous {
        // It waits for its next run: what there is to read is of the last one.
        path = attempt.checked_sub(1).map(|attempt| sandbox.log(container, attempt)).unwrap_or(path);
    }
    if !path.exists() {
        return Err(invalid(format!(
            "container \"{container}\" in pod \"{}\" is waiting to start",
            meta::name(pod)
        )));
    }
    let writer = if options.previous { None } else { record.process(&sandbox.report(container, attempt)) };
    Ok(Source { path, writer })
}

struct Reader {
    file: File,
    /// What tells of more, and who writes it; `None` once the end is the end.
    more: Option<(Notice, Process)>,
}

/// Opens a log.
pub(super) fn open(
    source: &Source,
    options: &LogOptions,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, ClusterError> {
    let failed = |error: io::Error| store::unreachable(&source.path, "read", &error);
    let mut file = File::open(&source.path).map_err(failed)?;
    let start = match options.tail {
        Some(lines) => start_of_last(&mut file, lines).map_err(failed)?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let more = match source.writer {
        Some(writer) if options.follow => {
            Some((Notice::of(&source.path, WatchFlags::MODIFY).map_err(failed)?, writer))
        }
        _ => None,
    };
    let reader = Reader { file, more };
    let chunks = stream::try_unfold(reader, |mut reader| async {
        let chunk = reader.next().await?;
        Ok::<_, io::Error>(chunk.map(|chunk| (chunk, reader)))
    });
    Ok(Box::new(StreamReader::new(Box::pin(chunks))))
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = self.file.read(&mut chunk)?;
            if count > 0 {
                chunk.truncate(count);
                return Ok(Some(chunk.into()));
            }
            let Some((notice, writer)) = &self.more else { return Ok(None) };
            let ended = tokio::select! {
                happened = notice.happened() => happened.map(|()| false)?,
                () = first_end(std::slice::from_ref(writer)) => true,
            };
            if ended {
                // One more look: it may have written before it ended.
                self.more = None;
            }
        }
    }
}

/// Returns where the last lines begin, read from the end.
fn start_of_last(file: &mut File, lines: u32) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut left = lines;
    let mut begin = end;
    let mut buffer = vec![0; CHUNK_BYTES];
    while begin > 0 {
        let count = begin.min(CHUNK_BYTES as u64);
        begin -= count;
        // At most the buffer's own length.
        let part = &mut buffer[..usize::try_from(count).unwrap_or(CHUNK_BYTES)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let after = begin + index as u64 + 1;
            // The line's end that closes the last line begins no other.
            if *byte == b'\n' && after < end {
                left -= 1;
                if left == 0 {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let check = |text: &str, lines: u32, expected: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let start = usize::try_from(start_of_last(&mut file, lines).unwrap()).unwrap();
            assert_eq!(&text[start..], expected, "{lines} of {text:?}");
        };
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc", 2, "b\nc");
        check("a\nb\nc\n", 9, "a\nb\nc\n");
        check("a\nb\n", 0, "");
        check("", 3, "");
        check("\n\n\n", 1, "\n");
        let long = format!("first\n{}\nlast\n", "x".repeat(3 * CHUNK_BYTES));
        check(&long, 1, "last\n");
        check(&long, 3, &long);
    }
}
