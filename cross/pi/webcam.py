"""A network camera that asks for a login: webcam.py PORT USER PASSWORD PICTURE gives the picture as MJPEG, twice a second."""

import base64
import socket
import sys
import threading
import time

port, user, password, picture = sys.argv[1:]
jpeg = open(picture, "rb").read()
login = "authorization: basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def serve(client):
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        if not piece:
            return
        request += piece
    words = [line.replace(" Basic ", " basic ") for line in request.decode().split("\r\n")]
    if not any(line[:14].lower() + line[14:] == login for line in words):
        client.sendall(b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        client.close()
        return
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    while True:
        client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg))
        time.sleep(0.5)


listener = socket.create_server(("127.0.0.1", int(port)))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
