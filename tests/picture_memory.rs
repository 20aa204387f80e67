//! What the daemon takes, with one worker, over all pictures that went wrong once and a progressive JPEG of a
//! 4K screen. A program of its own, so that no other test's memory counts.

mod mosquitto;
mod program;

use mosquitto::free_port;
use program::{ROOT, folder, retinad};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The service may take 288 MB.
const MOST_KB: u64 = 200 << 10;

#[test]
fn the_daemon_stays_within_its_memory_whatever_the_picture() {
    let folder = folder();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).expect("a folder");
    for entry in std::fs::read_dir(Path::new(ROOT).join("tests/faults/pictures")).expect("listed") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), pictures.join(entry.file_name())).expect("copied");
    }
    std::fs::write(pictures.join("progressive_4k.jpg"), progressive_4k()).expect("written");
    // Last, so that a frame that is judged shows the daemon at work after all of them.
    std::fs::copy(Path::new(ROOT).join("examples/pictures/chelsea.jpg"), pictures.join("z.jpg"))
        .expect("copied");
    // A recording that ends within a picture: it ends, too.
    let (film, cat) =
        (folder.path().join("film.mjpeg"), std::fs::read(pictures.join("z.jpg")).expect("read"));
    std::fs::write(&film, [&cat[..], &cat[..cat.len() / 2]].concat()).expect("written");
    let config = folder.path().join("retinad.toml");
    let replay = |name: &str, path: &Path| {
        let path = path.display();
        format!("[cameras.{name}]\nkind = \"replay\"\npath = \"{path}\"\nfps = 2\nrepeat = false\n")
    };
    let cameras = replay("album", &pictures) + &replay("film", &film);
    let text = format!("[mqtt]\nport = {}\n{cameras}", free_port());
    std::fs::write(&config, text).expect("written");
    let mut command = retinad(&["run", "--once", "--config", &config.display().to_string()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let (mut most, until) = (0, Instant::now() + Duration::from_secs(120));
    while child.try_wait().expect("asked").is_none() {
        assert!(Instant::now() < until, "`run --once` ends");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(kb.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("the daemon took {} MB at most", most >> 10);
    assert!(child.wait().expect("ended").success());
    assert!((20 << 10..MOST_KB).contains(&most), "{most} kB");
}

/// 3840 x 2160 pixels, no channel of them at a lower resolution: the most that such a picture takes.
fn progressive_4k() -> Vec<u8> {
    const SIZE: (u16, u16) = (3840, 2160);
    let pixel = |i: usize| [(i % 251) as u8, (i / 3840 % 256) as u8, (i % 97) as u8];
    let rgb: Vec<u8> = (0..usize::from(SIZE.0) * usize::from(SIZE.1)).flat_map(pixel).collect();
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
    encoder.set_progressive(true);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
    encoder.encode(&rgb, SIZE.0, SIZE.1, jpeg_encoder::ColorType::Rgb).expect("encodes");
    bytes
}
