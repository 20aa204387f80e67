//! Video4Linux cameras through nokhwa, and around its pitfalls: see the comments.

use super::{Camera, CaptureError};
use crate::frame::{Encoding, RawFrame, Turn};
use crate::image::jpeg_segments;
use crate::settings::{V4l2Format, V4l2Source};
use nokhwa::utils::{
    CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
};
use std::path::Path;

/// An open Video4Linux camera.
pub struct V4l2 {
    what: String,
    camera: nokhwa::Camera,
    encoding: Encoding,
    size: (u32, u32),
    /// Bytes of a raw frame; 0 for JPEG, whose end only its markers tell.
    length: usize,
}

const FORMATS: &[FrameFormat] =
    &[FrameFormat::MJPEG, FrameFormat::YUYV, FrameFormat::NV12, FrameFormat::RAWRGB];

impl V4l2 {
    /// Opens the device and starts its stream; errors call it `what`.
    ///
    /// # Errors
    /// [`CaptureError::Open`], with what the device offers, or which devices there are.
    pub fn open(what: String, settings: &V4l2Source) -> Result<Self, CaptureError> {
        let failed = |reason: String| CaptureError::Open { what: what.clone(), reason };
        let number =
            device_number(&settings.device).map_err(|reason| failed(format!("{reason}; {}", present())))?;
        let (format, encoding) = match settings.format {
            V4l2Format::Mjpeg => (FrameFormat::MJPEG, Encoding::Jpeg),
            V4l2Format::Yuyv => (FrameFormat::YUYV, Encoding::Yuyv),
            V4l2Format::Nv12 => (FrameFormat::NV12, Encoding::Nv12),
            V4l2Format::Rgb => (FrameFormat::RAWRGB, Encoding::Rgb),
            // nokhwa asks for the code GRAY, cameras offer GREY: no mono camera would ever match.
            V4l2Format::Grey => {
                let way_out = "use kind = \"stream\" with ffmpeg (config/rtsp.toml)";
                return Err(failed(format!("format grey cannot be read directly; {way_out}")));
            }
        };
        std::fs::File::open(format!("/dev/video{number}")).map_err(|e| failed(explain(&e.to_string())))?;
        if let Some(driver) = ribbon_driver(&name_of(&format!("video{number}"))) {
            return Err(failed(format!(
                "is a node of the ribbon camera's driver {driver}, which gives raw sensor data; \
                 config/pi-camera.toml reads that camera through rpicam-vid"
            )));
        }
        // fps is a whole number in nokhwa; cameras at 7.5 or 29.97 are not found.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "settings allow 0 to 240"
        )]
        let fps = settings.fps.round().max(1.0) as u32;
        let wanted = CameraFormat::new(Resolution::new(settings.width, settings.height), format, fps);
        let only = [format];
        let request = RequestedFormat::with_formats(RequestedFormatType::Closest(wanted), &only);
        let mut camera = nokhwa::Camera::new(CameraIndex::Index(number), request)
            .map_err(|e| failed(format!("{}; {}", explain(&e.to_string()), offers(number))))?;
        let resolution = camera.resolution();
        let size = (resolution.width(), resolution.height());
        if size != (settings.width, settings.height) {
            tracing::info!(camera = what, width = size.0, height = size.1, "the camera's nearest size");
        }
        camera.open_stream().map_err(|e| failed(explain(&e.to_string())))?;
        let pixels = size.0 as usize * size.1 as usize;
        let length = match encoding {
            Encoding::Yuyv => 2 * pixels,
            Encoding::Nv12 => pixels + 2 * (size.0 as usize).div_ceil(2) * (size.1 as usize).div_ceil(2),
            Encoding::Rgb => 3 * pixels,
            _ => 0,
        };
        Ok(Self { what, camera, encoding, size, length })
    }
}

impl Camera for V4l2 {
    fn next_frame(&mut self) -> Result<RawFrame, CaptureError> {
        // After any error the buffer may still be the kernel's: the caller drops the whole camera and opens
        // it anew.
        let buffer = self.camera.frame_raw().map_err(|e| CaptureError::Stopped {
            what: self.what.clone(),
            reason: explain(&e.to_string()),
        })?;
        // nokhwa gives the whole mapped buffer, not the bytes used.
        let used = if self.length > 0 { self.length } else { jpeg_length(&buffer) };
        let damaged = |reason: String| CaptureError::Damaged { what: self.what.clone(), reason };
        let data = buffer
            .get(..used)
            .filter(|d| !d.is_empty())
            .ok_or_else(|| damaged(format!("a frame of {} bytes", buffer.len())))?;
        let (width, height) = if self.length > 0 { self.size } else { (0, 0) };
        Ok(RawFrame { width, height, encoding: self.encoding, turn: Turn::NONE, data: data.to_vec() })
    }
}

/// Bytes up to the end of image: what follows it is padding or an older frame.
fn jpeg_length(buffer: &[u8]) -> usize {
    // Else left to the decoder, which names what is wrong with it.
    jpeg_segments::length(buffer).unwrap_or(buffer.len())
}

/// `0`, `/dev/video0` or a link to one to its number; resolved anew at each open, because numbers change on
/// replugging.
fn device_number(device: &str) -> Result<u32, String> {
    if let Ok(number) = device.parse() {
        return Ok(number);
    }
    let target = std::fs::canonicalize(Path::new(device)).map_err(|e| e.to_string())?;
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("video")
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| format!("{} is no video device", target.display()))
}

/// What the driver calls a node such as `video0`.
fn name_of(node: &str) -> String {
    let name = std::fs::read_to_string(Path::new("/sys/class/video4linux").join(node).join("name"));
    name.unwrap_or_default().trim().to_owned()
}

/// Drivers of the Pi's ribbon cameras, their image processors and decoders: none gives pictures by itself.
const RIBBON_DRIVERS: [&str; 6] =
    ["unicam", "rp1-cfe", "pispbe", "bcm2835-isp", "bcm2835-codec", "rpi-hevc-dec"];

/// The driver of a ribbon camera that a node's name tells of.
fn ribbon_driver(name: &str) -> Option<&'static str> {
    RIBBON_DRIVERS.iter().copied().find(|driver| name.starts_with(driver))
}

/// Which video devices there are, for an error's end.
fn present() -> String {
    let mut found: Vec<String> = std::fs::read_dir("/sys/class/video4linux")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let node = entry.file_name().to_string_lossy().into_owned();
            let name = name_of(&node);
            let note =
                if ribbon_driver(&name).is_some() { "; of a ribbon camera, see pi-camera.toml" } else { "" };
            format!("/dev/{node} ({name}{note})")
        })
        .collect();
    found.sort();
    if found.is_empty() {
        "there is no video device on this machine".into()
    } else {
        format!("there are {}", found.join(", "))
    }
}

/// What the device offers, for an error's end.
fn offers(number: u32) -> String {
    let any = RequestedFormat::with_formats(RequestedFormatType::AbsoluteHighestResolution, FORMATS);
    let formats = nokhwa::Camera::new(CameraIndex::Index(number), any)
        .and_then(|mut camera| camera.compatible_camera_formats());
    let mut found: Vec<String> = formats
        .into_iter()
        .flatten()
        .map(|f| {
            format!(
                "{} {}x{} at {}",
                f.format().to_string().to_lowercase(),
                f.width(),
                f.height(),
                f.frame_rate()
            )
        })
        .collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        "it offers no mjpeg, yuyv, nv12 or rgb (a Pi's ribbon camera needs config/pi-camera.toml)".into()
    } else {
        format!("it offers {}", found.join(", "))
    }
}

/// The usual causes in words.
fn explain(error: &str) -> String {
    let error = error.lines().next().unwrap_or_default();
    if error.contains("os error 16") {
        format!("busy, another program uses it, perhaps the service: systemctl stop retinad ({error})")
    } else if error.contains("os error 13") {
        format!(
            "no permission: add the user to the group video: sudo usermod -aG video NAME, then log in again ({error})"
        )
    } else if error.contains("os error 2)") {
        format!("no such device ({error}); {}", present())
    } else {
        error.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_number_path_and_link() {
        assert_eq!(device_number("3"), Ok(3));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let device = folder.path().join("video7");
        std::fs::write(&device, "").expect("written");
        let link = folder.path().join("usb-Maker_Cam-video-index0");
        std::os::unix::fs::symlink(&device, &link).expect("linked");
        assert_eq!(device_number(&link.display().to_string()), Ok(7));
        let other = folder.path().join("null");
        std::fs::write(&other, "").expect("written");
        assert!(
            device_number(&other.display().to_string())
                .expect_err("no camera")
                .contains("is no video device")
        );
    }

    #[test]
    fn an_absent_device_is_named_with_those_there() {
        let settings = V4l2Source { device: "4242".into(), ..V4l2Source::default() };
        let error = V4l2::open("/dev/video4242".into(), &settings).err().expect("absent").to_string();
        assert!(error.starts_with("/dev/video4242: no such device") && error.contains("there "), "{error}");
    }

    #[test]
    fn nodes_of_ribbon_cameras_are_told_from_webcams() {
        for name in
            ["unicam-image", "unicam-embedded", "rp1-cfe-csi2_ch0", "pispbe-output0", "bcm2835-isp-capture0"]
        {
            assert!(ribbon_driver(name).is_some(), "{name}");
        }
        assert_eq!(ribbon_driver("HD Webcam C525: unicam"), None);
    }

    #[test]
    fn bytes_after_the_end_of_image_are_cut() {
        let mut buffer = include_bytes!("../../examples/pictures/coffee.jpg").to_vec();
        let length = buffer.len();
        buffer.extend([0; 5000]);
        assert_eq!(jpeg_length(&buffer), length);
    }
}
