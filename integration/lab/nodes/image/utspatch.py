#!/usr/bin/env python3
"""utspatch.py IN OUT OLD NEW: the same bzImage, with NEW instead of OLD as its `uname -r`.

Unpacks the payload, rewrites the release in init_uts_ns (a char[65]) and nothing else, and packs it
again into the same slot. The version magic of modules is another string and stays, so Debian's
modules still load.
"""
import struct
import subprocess
import sys

src, dst, old, new = sys.argv[1:5]
old, new = old.encode(), new.encode()
image = bytearray(open(src, "rb").read())
if image[0x202:0x206] != b"HdrS":
    sys.exit(f"{src}: no Linux boot header")
setup_sectors = image[0x1F1] or 4
start = struct.unpack_from("<I", image, 0x248)[0] + (setup_sectors + 1) * 512
length = struct.unpack_from("<I", image, 0x24C)[0]
payload = bytes(image[start:start + length])

# Every method but gzip is followed by the unpacked size, four bytes that the boot code reads.
packed, size = payload[:-4], struct.unpack("<I", payload[-4:])[0]
METHODS = {
    b"\x02\x21\x4c\x18": (["lz4", "-dc"], [["lz4", "-l", "-9", "-c"], ["lz4", "-l", "-12", "-c"]]),
    b"\x28\xb5\x2f\xfd": (["zstd", "-dcf"], [["zstd", "-22", "--ultra", "-c", "--no-check"]]),
    b"\xfd7zX": (["xz", "-dc"], [["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB,preset=9e", "-c"]]),
}
if packed[:4] not in METHODS:
    sys.exit(f"{src}: compressed in a way that is not known here ({packed[:4].hex()})")
unpack, packers = METHODS[packed[:4]]


def pipe(command, data):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout


kernel = bytearray(pipe(unpack, packed))
if len(kernel) != size:
    sys.exit(f"{src}: {len(kernel)} bytes unpacked, {size} announced")
places, at = 0, -1
while (at := kernel.find(b"Linux" + bytes(60), at + 1)) >= 0:
    release = at + 2 * 65  # struct new_utsname: sysname, nodename, release
    if kernel[release:release + len(old) + 1] == old + b"\0":
        kernel[release:release + 65] = new.ljust(65, b"\0")
        places += 1
if not 1 <= places <= 2:
    sys.exit(f"{src}: {places} places hold {old.decode()}")
for packer in packers:
    again = pipe(packer, bytes(kernel))
    if again and len(again) <= len(packed):
        break
else:
    sys.exit(f"{src}: does not fit when packed again")
image[start:start + length] = again.ljust(len(packed), b"\0") + payload[-4:]
open(dst, "wb").write(image)
