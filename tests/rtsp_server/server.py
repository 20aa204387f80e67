"""GStreamer's RTSP server as a camera that asks for a password: server.py basic|digest USER PASSWORD FILE.mkv

Serves /h264 (the file, which must hold H.264) and /mjpeg (a test picture); prints its port.
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "viewer"


def media(pipeline):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {pipeline} )")
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role(ROLE)
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role(ROLE, permission, True)
    factory.set_permissions(permissions)
    return factory


def login(method, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    return auth


def main():
    method, user, password, file = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    server.set_auth(login(method, user, password))
    mounts = server.get_mount_points()
    mounts.add_factory("/h264", media(f"filesrc location={file} ! matroskademux ! rtph264pay name=pay0"))
    picture = "video/x-raw,format=I420,width=320,height=240,framerate=10/1"
    mounts.add_factory("/mjpeg", media(f"videotestsrc is-live=true ! {picture} ! jpegenc ! rtpjpegpay name=pay0"))
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main()
