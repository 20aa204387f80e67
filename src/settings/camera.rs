//! `[cameras.<id>]`: keys that every camera has, and those of its kind.

use super::keys::{section, words};
use super::shapes::{LineSettings, MaskSettings, RuleSettings, ZoneSettings};
use super::value::{TextRule, ValueType};
use crate::address::HttpAddress;
use crate::frame::Turn;
use crate::secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

words! {
    /// What kind of camera.
    pub enum CameraKind {
        /// Video4Linux: USB webcams
        V4l2 = "v4l2",
        /// multipart MJPEG over HTTP, or a child process that writes frames to its stdout
        Stream = "stream",
        /// pictures in a folder, or a recording (.y4m or .mjpeg)
        Replay = "replay",
    }
}

section! {
    /// A camera. Its kind decides which other keys it has.
    pub struct CameraSettings {
        /// Frames a second that are detected on, at most. 0: as many as come and the workers manage. Fewer
        /// keep the machine cool.
        max_fps: f32 {
            value: ValueType::Number { min: 0.0, max: 240.0 },
            default: "0.0",
            unit: "frames a second",
            takes_effect: RestartsCamera,
        }
        /// Silence after which the camera is taken for hung and opened again.
        timeout_s: f32 {
            value: ValueType::Number { min: 1.0, max: 600.0 },
            default: "10.0",
            unit: "seconds",
            takes_effect: RestartsCamera,
        }
        /// By how much its picture is turned clockwise before anything is looked for in it: 180 for a camera
        /// hung upside down, 90 or 270 for one on its side. Boxes and sizes are those of the turned picture.
        rotate: u32 {
            value: ValueType::Choice(&[0, 90, 180, 270]),
            default: "0",
            unit: "degrees",
            takes_effect: RestartsCamera,
        }
        /// Exchange left and right, after the rotation: for a mirror, or a camera that mirrors. With rotate =
        /// 180 it exchanges top and bottom.
        flip: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Labels that are told: counted, published, and worth an event. Names are those of the model
        /// (`retinad check` lists them all), or as they stand in topics. []: all.
        labels: Vec<String> {
            value: ValueType::Labels,
            default: "[]",
            unit: "",
            takes_effect: AtOnce,
        }
        /// What was told goes on being told while it scores more than this, where it was seen last: an
        /// object in dim light does not come and go with each frame. 0: seven tenths of the score above which
        /// it is told first; 0.99: no lower score for what is there.
        off_score: f32 {
            value: ValueType::Number { min: 0.0, max: 0.99 },
            default: "0.0",
            unit: "",
            takes_effect: AtOnce,
        }
        /// Frames that must show an object before it is told: counted, and worth an event. More mean fewer false
        /// alarms, later. Where frames are more than 2 s apart, one suffices.
        min_hits: u32 {
            value: ValueType::Whole { min: 1, max: 10 },
            default: "2",
            unit: "frames",
            takes_effect: AtOnce,
        }
        /// An object has left when it was not seen for so long; who passes behind a tree has not. Counts do not
        /// wait for it: see `mqtt.off_delay_s`.
        max_age_s: f32 {
            value: ValueType::Number { min: 0.5, max: 600.0 },
            default: "5.0",
            unit: "seconds",
            takes_effect: AtOnce,
        }
        /// The same for an object at rest, such as a parked car: it may be seen badly for a while, and does not
        /// leave without moving.
        stationary_max_age_s: f32 {
            value: ValueType::Number { min: 0.5, max: 3600.0 },
            default: "30.0",
            unit: "seconds",
            takes_effect: AtOnce,
        }
        /// Look only at frames in which something moved, or the light changed, since the last one that was looked
        /// at, and at one every motion_force_s: a still scene costs a fraction of the work. `<cam>/motion` says
        /// whether something moves.
        motion: bool {
            value: ValueType::Switch,
            default: "false",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// How far a change must rise above the sensor's noise, which is learnt, to count as motion: standard
        /// deviations. Less finds fainter things and looks at more frames.
        motion_threshold: f32 {
            value: ValueType::Number { min: 3.0, max: 50.0 },
            default: "5.0",
            unit: "standard deviations",
            takes_effect: RestartsCamera,
        }
        /// With motion = true a frame is looked at no later than this after the last one.
        motion_force_s: f32 {
            value: ValueType::Number { min: 0.5, max: 600.0 },
            default: "5.0",
            unit: "seconds",
            takes_effect: RestartsCamera,
        }
    }
    besides {
        /// What is asked of single labels, by label.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        rules: BTreeMap<String, RuleSettings>,
        /// Areas in which objects are counted, by name.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        zones: BTreeMap<String, ZoneSettings>,
        /// Lines whose crossings are counted, by name.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        lines: BTreeMap<String, LineSettings>,
        /// Areas that are left out, by name.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        masks: BTreeMap<String, MaskSettings>,
        /// Where its frames come from.
        #[serde(flatten)]
        source: Source,
    }
}

/// Where a camera's frames come from: one variant for each [`CameraKind`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A Video4Linux device.
    V4l2(V4l2Source),
    /// A stream of bytes.
    Stream(StreamSource),
    /// Pictures or a recording.
    Replay(ReplaySource),
}

section! {
    /// A Video4Linux device.
    pub struct V4l2Source {
        /// Number (`0`) or path (`/dev/video0`, `/dev/v4l/by-id/...`). A path by id survives replugging.
        device: String {
            value: ValueType::Text(TextRule::NotEmpty("a number or a path such as /dev/v4l/by-id/...")),
            default: "\"0\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Width asked for. More costs decoding time; the camera's nearest size is taken.
        width: u32 {
            value: ValueType::Whole { min: 1, max: 8192 },
            default: "640",
            unit: "pixels",
            takes_effect: RestartsCamera,
        }
        /// Height asked for.
        height: u32 {
            value: ValueType::Whole { min: 1, max: 8192 },
            default: "480",
            unit: "pixels",
            takes_effect: RestartsCamera,
        }
        /// Frame rate asked for.
        fps: f32 {
            value: ValueType::Number { min: 0.0, max: 240.0 },
            default: "15.0",
            unit: "frames a second",
            takes_effect: RestartsCamera,
        }
        /// Pixel format asked for.
        format: V4l2Format {
            value: ValueType::Word(V4l2Format::WORDS),
            default: "\"mjpeg\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
    }
}

words! {
    /// Pixel format of a Video4Linux device.
    pub enum V4l2Format {
        /// JPEG pictures
        Mjpeg = "mjpeg",
        /// 4:2:2, 2 bytes a pixel
        Yuyv = "yuyv",
        /// 4:2:0, luma plane and interleaved chroma plane
        Nv12 = "nv12",
        /// 3 bytes a pixel
        Rgb = "rgb",
        /// 1 byte a pixel
        Grey = "grey",
    }
}

section! {
    /// A stream of bytes: exactly one of `url` and `command` says where it comes from.
    pub struct StreamSource {
        /// `http://...` or `https://...` address of a multipart MJPEG stream or of a still picture, with
        /// user and password (`http://me:{secret:front}@camera/`; a secret is kept in
        /// `/etc/retinad/secrets/front`). Empty: use `command`.
        url: String {
            value: ValueType::Text(TextRule::AddressOrEmpty),
            default: "\"\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Certificates (PEM) that an `https://` address is checked against; the camera's own is trusted as
        /// it is. Empty: the system's.
        ca_file: PathBuf {
            value: ValueType::Path,
            default: "\"\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Time from one picture to the next where each is asked for. 0: once a second where the server
        /// answers with single pictures; a stream keeps its own time.
        poll_s: f32 {
            value: ValueType::Number { min: 0.0, max: 3600.0 },
            default: "0.0",
            unit: "seconds",
            takes_effect: RestartsCamera,
        }
        /// A child process and its arguments, in which `{secret:NAME}` may stand; it writes frames to its
        /// stdout. Empty: use `url`.
        command: Vec<String> {
            value: ValueType::Texts,
            default: "[]",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Format of the stream.
        format: StreamFormat {
            value: ValueType::Word(StreamFormat::WORDS),
            default: "\"mjpeg\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Width of a frame; only i420 needs it, the other formats say it themselves.
        width: u32 {
            value: ValueType::Whole { min: 1, max: 8192 },
            default: "640",
            unit: "pixels",
            takes_effect: RestartsCamera,
        }
        /// Height of a frame; only i420 needs it.
        height: u32 {
            value: ValueType::Whole { min: 1, max: 8192 },
            default: "480",
            unit: "pixels",
            takes_effect: RestartsCamera,
        }
    }
}

words! {
    /// Format of a stream of frames.
    pub enum StreamFormat {
        /// JPEG pictures one after the other, or as parts of a multipart answer
        Mjpeg = "mjpeg",
        /// YUV4MPEG2, 4:2:0 or mono with 8 bits
        Y4m = "y4m",
        /// raw 4:2:0 frames without headers
        I420 = "i420",
    }
}

section! {
    /// Pictures or a recording in place of a camera.
    pub struct ReplaySource {
        /// Folder of pictures (JPEG, PNG, WebP; in the order of their names), a .y4m or an .mjpeg file. It
        /// must be given.
        path: PathBuf {
            value: ValueType::GivenPath,
            default: "\"\"",
            unit: "",
            takes_effect: RestartsCamera,
        }
        /// Frame rate of the replay. 0: as fast as the workers take them.
        fps: f32 {
            value: ValueType::Number { min: 0.0, max: 240.0 },
            default: "15.0",
            unit: "frames a second",
            takes_effect: RestartsCamera,
        }
        /// Start again at the end.
        repeat: bool {
            value: ValueType::Switch,
            default: "true",
            unit: "",
            takes_effect: RestartsCamera,
        }
    }
}

impl StreamSource {
    /// The address without user, password and query.
    fn shown_address(&self) -> String {
        // A secret may also stand in the path or be the whole query, and is not known here.
        let masked = secret::masked_placeholders(&self.url);
        HttpAddress::parse(&masked).map_or_else(|_| "its address".into(), |address| address.to_string())
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::V4l2(V4l2Source::default())
    }
}

impl Source {
    /// What kind of camera this is.
    #[must_use]
    pub fn kind(&self) -> CameraKind {
        match self {
            Self::V4l2(_) => CameraKind::V4l2,
            Self::Stream(_) => CameraKind::Stream,
            Self::Replay(_) => CameraKind::Replay,
        }
    }

    /// The format as it stands in the file; none for a replay, whose files say it.
    #[must_use]
    pub fn format(&self) -> Option<&'static str> {
        match self {
            Self::V4l2(v4l2) => Some(v4l2.format.as_str()),
            Self::Stream(stream) => Some(stream.format.as_str()),
            Self::Replay(_) => None,
        }
    }

    /// Width and height in pixels as they stand in the settings; none for a replay.
    #[must_use]
    pub fn size(&self) -> Option<(u32, u32)> {
        match self {
            Self::V4l2(v4l2) => Some((v4l2.width, v4l2.height)),
            Self::Stream(stream) => Some((stream.width, stream.height)),
            Self::Replay(_) => None,
        }
    }

    /// Frames a second as they stand in the settings; none for a stream, which keeps its own time.
    #[must_use]
    pub fn fps(&self) -> Option<f32> {
        match self {
            Self::V4l2(v4l2) => Some(v4l2.fps),
            Self::Stream(_) => None,
            Self::Replay(replay) => Some(replay.fps),
        }
    }
}

impl CameraSettings {
    /// What errors call the camera: its device, program, address without credentials, or path.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.source {
            Source::Replay(replay) => replay.path.display().to_string(),
            Source::V4l2(v4l2) if v4l2.device.parse::<u32>().is_ok() => format!("/dev/video{}", v4l2.device),
            Source::V4l2(v4l2) => v4l2.device.clone(),
            Source::Stream(stream) => {
                stream.command.first().cloned().unwrap_or_else(|| stream.shown_address())
            }
        }
    }

    /// Longest time from one frame to the next of a camera that is well, where the settings say it.
    #[must_use]
    pub fn between_frames(&self) -> Duration {
        Duration::from_secs_f32(match &self.source {
            Source::Replay(replay) if replay.fps > 0.0 => 1.0 / replay.fps,
            Source::Stream(stream) => stream.poll_s,
            Source::Replay(_) | Source::V4l2(_) => 0.0,
        })
    }

    /// What stands its pictures upright.
    #[must_use]
    pub fn turn(&self) -> Turn {
        Turn::quarters(self.rotate / 90).then(Turn { mirrored_x: self.flip, ..Turn::NONE })
    }

    /// Width and height in pixels that its pictures will have once they are turned, if the camera gives what
    /// the settings ask for; none for a replay.
    #[must_use]
    pub fn turned_size(&self) -> Option<(u32, u32)> {
        let (width, height) = self.source.size()?;
        Some(if self.turn().transposed { (height, width) } else { (width, height) })
    }

    /// Frames a second of a replay, 0: as fast as they are taken. None for a camera that keeps its own time.
    #[must_use]
    pub fn replay_fps(&self) -> Option<f32> {
        match &self.source {
            Source::Replay(replay) => Some(replay.fps),
            Source::V4l2(_) | Source::Stream(_) => None,
        }
    }
}
