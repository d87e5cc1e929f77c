"""HTML in one line."""

from __future__ import annotations

import pytest

from roles.maintenance.one_line import one_line


@pytest.mark.parametrize(("html", "expected"), [
    ("<p>\n  a\n\n  b </p>\n", "<p> a b </p>"),
    ("<script>\n// look\nlook()\n</script>\n", "<script>\u2028// look\u2028look()\u2028</script>"),
    ("<SCRIPT\n type='module'>a\nb</SCRIPT\n>", "<SCRIPT type='module'>a\u2028b</SCRIPT >"),
    ("<script type=text/javascript>a\nb</script>",
     "<script type=text/javascript>a\u2028b</script>"),
    ('<script data-type="x">\n// c\nrun()</script>',
     '<script data-type="x">\u2028// c\u2028run()</script>'),
    ('<script type="application/ld+json">{\n}</script>',
     '<script type="application/ld+json">{ }</script>'),
    ("<script type='text/x-template'>a\nb</script>", "<script type='text/x-template'>a b</script>"),
    ("<pre>a\n  b</pre>\n<textarea>c\n</textarea>",
     "<pre>a&#10;  b</pre> <textarea>c&#10;</textarea>"),
    ("<!-- a <script> -->\n<p>\nb</p><script>c\n</script>",
     "<!-- a <script> --> <p> b</p><script>c\u2028</script>"),
    ("<!-- a\nb -->", "<!-- a b -->"),
    ("<prefix>a\nb</prefix>", "<prefix>a b</prefix>"),
])
def test_line_ends_stay_where_they_count(html: str, expected: str) -> None:
    assert one_line(html) == expected
