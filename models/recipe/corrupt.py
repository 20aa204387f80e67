"""What cameras do to pictures: motion blur, darkness with shot noise, infra-red grey, strong JPEG.

For training only. The corruptions that a model is judged by are other code, and other draws.
"""

import io
import math

import numpy as np
from PIL import Image


def motion_blur(pixels, rng):
    """The mean of the picture along a straight path of 4 to 14 pixels."""
    length, angle = rng.uniform(4, 14), rng.uniform(0, math.pi)
    count = int(length) + 1
    places = [(i / (count - 1) - 0.5) * length for i in range(count)]
    room = int(length) // 2 + 2
    height, width = pixels.shape[:2]
    wide = np.pad(pixels, ((room, room), (room, room), (0, 0)), mode="edge")
    total = np.zeros_like(pixels)
    for place in places:
        x, y = room + round(place * math.cos(angle)), room + round(place * math.sin(angle))
        total += wide[y : y + height, x : x + width]
    return total / count


def noisy(pixels, rng, electrons, reading):
    """Shot noise of a sensor with so many electrons at full white, and reading noise in grey levels."""
    noise = np.random.default_rng(rng.getrandbits(32))
    caught = noise.poisson(pixels.clip(0) / 255 * electrons) * (255 / electrons)
    return caught + noise.normal(0, reading, pixels.shape)


def dark(pixels, rng):
    return noisy(pixels * rng.uniform(0.15, 0.5), rng, rng.uniform(150, 1000), rng.uniform(1, 5))


def infra_red(pixels, rng):
    """Grey from the red channel above all, brighter in the middle where the lamp shines, soft and noisy."""
    share = np.array([rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.2)], np.float32)
    grey = pixels @ (share / share.sum())
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    grey = grey * (rng.uniform(0.9, 1.2) - rng.uniform(0.1, 0.5) * (x * x + y * y) / 2)
    edges = np.pad(grey, 1, mode="edge")
    soft = (edges[:-2, 1:-1] + edges[2:, 1:-1] + edges[1:-1, :-2] + edges[1:-1, 2:] + 2 * grey) / 6
    return np.repeat(noisy(soft, rng, rng.uniform(200, 1500), rng.uniform(1, 8))[..., None], 3, axis=2)


def corrupted(picture, rng):
    """The picture with one of the four corruptions, each as likely."""
    kind = rng.randrange(4)
    if kind == 3:
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=rng.randint(8, 40))
        return Image.open(buffer).convert("RGB")
    pixels = (motion_blur, dark, infra_red)[kind](np.asarray(picture, np.float32), rng)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
