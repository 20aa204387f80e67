//! The words of the manifest: each key that takes one of a few has an enum here, read and written as the
//! word.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// Declares an enum whose variants are words. Reading refuses any other word with what was found and what is
/// allowed.
macro_rules! words {
    ($($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal),+ $(,)? })+) => { $(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $variant),+
        }

        impl $name {
            /// Every word that the manifest may hold here.
            pub const ALLOWED: &[&str] = &[$($word),+];

            /// The word as the manifest writes it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let found = String::deserialize(deserializer)?;
                match found.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(D::Error::custom(format!("{found:?}, must be one of {:?}", Self::ALLOWED))),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    )+ };
}

words! {
    /// `format`: the version of the manifest.
    Format {
        /// The only one so far.
        V1 = "retinad-manifest/1",
    }

    /// `input.layout`: how the input tensor's axes stand.
    Layout {
        /// Batch, channels, height, width.
        Nchw = "nchw",
    }

    /// `input.channels`: order of the input's colour channels.
    Channels {
        /// Red first.
        Rgb = "rgb",
        /// Blue first, as in models trained on pictures that OpenCV read.
        Bgr = "bgr",
    }

    /// `input.dtype`: type of the input tensor in the graph.
    InputType {
        /// 32-bit float; a quantised graph begins with its quantiser.
        F32 = "f32",
    }

    /// `letterbox.placement`: where the picture lies in the input.
    Placement {
        /// At the top left; bars to the right and below.
        TopLeft = "top_left",
        /// In the middle; bars on both sides.
        Centre = "centre",
    }

    /// `letterbox.resample`: how the picture is scaled.
    Resample {
        /// Bilinear with pixel centres at one half: two source pixels an axis, however much the picture
        /// shrinks.
        BilinearHalfPixel = "bilinear_half_pixel",
    }

    /// `letterbox.rounding`: how the scaled sides become whole pixels.
    Rounding {
        /// To the nearest.
        Nearest = "nearest",
    }

    /// `heads.class_channels`: what the channels of a class output are.
    ClassChannels {
        /// Channel `a * K + k` is class `k` of anchor `a`.
        AnchorMajor = "anchor_major",
        /// Channel `k * A + a` is class `k` of anchor `a`.
        ClassMajor = "class_major",
    }

    /// `heads.box_order`: what the four numbers of an anchor in a box output are.
    BoxOrder {
        /// Across first, as in torchvision and Detectron2.
        DxDyDwDh = "dx_dy_dw_dh",
        /// Down first, as in TensorFlow's models.
        DyDxDhDw = "dy_dx_dh_dw",
        /// Distances from the anchor's centre to the box's sides, in widths and heights of the anchor, as in
        /// NanoDet and FCOS.
        LeftTopRightBottom = "left_top_right_bottom",
    }

    /// `activation.kind`: what turns a logit into a score.
    ActivationKind {
        /// The logistic function: the scores of an anchor's classes are independent.
        Sigmoid = "sigmoid",
        /// The exponentials of an anchor's classes, divided by their sum.
        Softmax = "softmax",
    }

    /// `activation.background`: which channel of an anchor says that it holds nothing.
    Background {
        /// The one before the classes.
        First = "first",
        /// The one after the classes.
        Last = "last",
    }

    /// `anchors.format`: what the four numbers of a base box are.
    BoxFormat {
        /// Left, top, right, bottom.
        Xyxy = "xyxy",
    }

    /// `anchors.order`: in which order the anchors stand that `anchors.sha256` is taken over.
    AnchorOrder {
        /// By level, then row, column and anchor of the cell.
        LevelYXAnchor = "level_y_x_anchor",
    }

    /// `anchors.cell_order`: in which order the boxes of a cell were made. For people: `base` lists them.
    CellOrder {
        /// All ratios of the first scale, then of the next.
        ScaleRatio = "scale_ratio",
        /// All scales of the first ratio, then of the next.
        RatioScale = "ratio_scale",
    }

    /// `anchors.rounding`: how the base boxes were rounded. For people: `base` lists them.
    AnchorRounding {
        /// Not at all.
        None = "none",
        /// Half extents to whole pixels, ties to even, as torchvision does.
        HalfExtentTiesEven = "half_extent_ties_even",
    }

    /// `decode.clip`: when boxes are clipped to the picture.
    ClipOrder {
        /// Before non-maximum suppression: boxes beyond the edge do not suppress others by what cannot be
        /// seen.
        BeforeNms = "before_nms",
        /// After it.
        AfterNms = "after_nms",
    }

    /// `self_test.picture`: the picture that `self_test.heads_sha256` was computed on.
    SelfTestPicture {
        /// The built-in picture of gradients and rectangles, in the size of the input.
        Retinad1 = "retinad-1",
    }
}
