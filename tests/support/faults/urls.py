"""Ways to name a URL to a service: as itself, in documents and pictures, and in the headers of a form."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, PngImagePlugin

from tests.support.faults.attacking import as_form
from tests.support.tiny import PICTURE, PIXELS


def urls_to(place: str) -> list[str]:
    """Names of a place on a port of this machine, and of files."""
    found = [f"{scheme}://{place}" for scheme in ("http", "https", "ftp", "s3", "gopher", "file", "jar:http", "HTTP")]
    found += [f"//{place}", f"http:{place}", f"http://user@{place}", f"data:image/png;base64,http://{place}"]
    return [*found, f"data:text/uri-list,http://{place}", "file:///etc/passwd", "/etc/passwd", "|cat /etc/passwd"]


def documents_about(url: str) -> list[bytes]:
    """What some decoders follow URLs from, none of them a picture that is accepted."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    entity = f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "{url}">]>'
    parameter = f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY % x SYSTEM "{url}"> %x;]>'
    found = [
        f'{svg}><image xlink:href="{url}" width="9" height="9"/></svg>',
        f"{entity}{svg}><text>&x;</text></svg>",
        f"{parameter}{svg}/>",
        f'<?xml version="1.0"?><!DOCTYPE svg SYSTEM "{url}">{svg}/>',
        f'<?xml version="1.0"?><?xml-stylesheet href="{url}"?>{svg}/>',
        f'{svg} xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include parse="text" href="{url}"/></svg>',
        f"{svg}><style>@import '{url}';</style></svg>",
        f'<?xml version="1.0"?><image><read filename="{url}"/></image>',  # MSL
        f"push graphic-context\nimage Over 0,0 9,9 '{url}'\npop graphic-context",  # MVG
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({url}) run",
        f"#EXTM3U\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST",
    ]
    return [text.encode() for text in found]


def pictures_about(url: str) -> list[bytes]:
    """Good pictures whose metadata name it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("profile", url)  # a decoder of ImageMagick read the file of that name
    info.add_itxt("XML:com.adobe.xmp", f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY x SYSTEM "{url}">]><x>&x;</x>')
    png, jpeg = BytesIO(), BytesIO()
    Image.fromarray(PIXELS).save(png, "PNG", pnginfo=info)
    Image.fromarray(PIXELS).save(jpeg, "JPEG", comment=url.encode())
    return [png.getvalue(), jpeg.getvalue()]


def forms_about(url: str) -> list[bytes]:
    """A good form with the URL in the headers of its picture."""
    form, raw, part = as_form(("task", b"fruit"), ("image", PICTURE)), url.encode(), b'name="image"'
    headers = [
        b'%s; filename="%s"',
        b"%s; filename*=UTF-8''%s",
        b'%s; filename="../../%s"',
        b"%s\r\nContent-Location: %s",
    ]
    headers += [b'%s\r\nContent-Type: message/external-body; access-type=URL; URL="%s"', b"%s\r\nContent-ID: <%s>"]
    return [form.replace(part, header % (part, raw)) for header in headers]
