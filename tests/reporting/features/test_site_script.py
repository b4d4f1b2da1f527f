import json

from distsae.reporting.features.site_script import data_script


def test_json_without_what_could_end_a_script():
    content = {"a": ["</script><!--", "é🙂\u2028", None, 0.5]}
    script = data_script("f(3,", content)
    assert script.isascii()
    assert b"<" not in script
    assert script.startswith(b"f(3,{")
    assert script.endswith(b"})\n")
    assert json.loads(script[4:-2]) == content
