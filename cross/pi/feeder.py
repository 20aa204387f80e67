"""A camera that shows one picture: writes it to a v4l2loopback device as 640 x 480 JPEG, five times a second."""

import fcntl
import struct
import sys
import time

S_FMT, OUTPUT = 0xC0D05605, 2
device, picture = sys.argv[1:]
jpeg = open(picture, "rb").read()
# struct v4l2_format: type, padding, then v4l2_pix_format up to sizeimage; 208 bytes.
wanted = struct.pack("<II II4sIIIII", OUTPUT, 0, 640, 480, b"MJPG", 1, 0, 640 * 480 * 4, 8, 0)
with open(device, "r+b", buffering=0) as camera:
    fcntl.ioctl(camera, S_FMT, bytearray(wanted.ljust(208, b"\0")))
    while True:
        camera.write(jpeg)
        time.sleep(0.2)
