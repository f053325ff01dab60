"""What an endpoint says of itself, made of what was deployed, without a worker: its OpenAPI, and a page to try it on."""

from __future__ import annotations

import html

import msgspec

from relight.control.web import Target
from relight.gateway.exchange import Answer
from relight.gateway.problems import HttpProblem
from relight.gateway.schemas import lifted
from relight.protocol.manifest import Json

_PAGE_HEADERS = (
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
)
_DOCS = (b"/docs", b"/docs/")
_WITH_BODY = ("POST", "PUT", "PATCH")


def answer(target: Target, rest: bytes, root: bytes) -> Answer | None:
    """The page below an endpoint; None when there is none."""
    if not target.web.has_docs:
        return None
    if rest == b"/openapi.json":
        return Answer(body=msgspec.json.encode(document(target, root.decode("latin-1"))))
    if rest in _DOCS:
        return Answer(
            body=_page(target, root.decode("latin-1")).encode(), type="text/html; charset=utf-8", headers=_PAGE_HEADERS
        )
    return None


def gate(target: Target, rest: bytes, refused: HttpProblem) -> Answer | None:
    """What a browser, which cannot show a token, is shown in place of the page: it asks for one, and says nothing of the endpoint.

    None where that has no page.
    """
    if target.web.kind != "endpoint" or not target.web.has_docs or rest not in _DOCS:
        return None
    return Answer(
        status=refused.status,
        body=_GATE.encode(),
        type="text/html; charset=utf-8",
        headers=(*_PAGE_HEADERS, *refused.headers),
    )


def document(target: Target, root: str) -> dict[str, Json]:
    """The endpoint as OpenAPI 3.1."""
    method = target.method
    schemas: dict[str, Json] = {}
    takes = lifted(method.input_schema or {"type": "object"}, "input", schemas)
    gives = lifted(method.output_schema, "output", schemas)
    operations: dict[str, Json] = {}
    for verb in target.web.methods:
        answered: dict[str, Json] = {"description": "What it returns"}
        if method.output_schema is not None:
            answered["content"] = {
                "text/event-stream" if method.is_generator else "application/json": {"schema": gives}
            }
        operation: dict[str, Json] = {
            "operationId": f"{target.name}_{verb.lower()}",
            "summary": method.doc.split("\n")[0],
            "description": method.doc,
            "responses": {"200": answered, "422": {"description": "An argument is not what it asks for"}},
        }
        if verb in _WITH_BODY:
            operation["requestBody"] = {"content": {"application/json": {"schema": takes}}}
        else:
            operation["parameters"] = _parameters(takes)
        operations[verb.lower()] = operation
    document: dict[str, Json] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{target.version.app}: {target.name}",
            "version": target.version.id,
            "description": method.doc,
        },
        "servers": [{"url": root or "/"}],
        "paths": {"/": operations},
    }
    components: dict[str, Json] = {"schemas": schemas} if schemas else {}
    if target.web.needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    if components:
        document["components"] = components
    return document


def _parameters(schema: Json) -> list[Json]:
    assert isinstance(schema, dict), "it was lifted"
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = required if isinstance(required, list) else []
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": one} for name, one in properties.items()
    ]


def _page(target: Target, root: str) -> str:
    verb = target.web.methods[0]
    schema = target.method.input_schema if isinstance(target.method.input_schema, dict) else {}
    properties = schema.get("properties")
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    fields = "".join(
        _FIELD.format(
            name=html.escape(name),
            need=" *" if name in needed else "",
            kind=html.escape(_kind(one)),
        )
        for name, one in (properties.items() if isinstance(properties, dict) else ())
    )
    return _PAGE.format(
        title=html.escape(f"{target.version.app} · {target.name}"),
        doc=html.escape(target.method.doc),
        verb=verb,
        path=html.escape(root or "") + "/",
        fields=fields,
        token=_TOKEN if target.web.needs_token else "",
    )


def _kind(schema: Json) -> str:
    if not isinstance(schema, dict):
        return "anything"
    branches = schema.get("anyOf")
    if isinstance(branches, list):
        return " or ".join(_kind(one) for one in branches)
    kind = schema.get("type", schema.get("$ref", "anything"))
    return str(kind).rpartition("/")[2]


_FIELD = """<label><span>{name}{need}</span><small>{kind}</small><input name="{name}" autocomplete="off"></label>
"""
_TOKEN = """<label><span>token</span><small>of this server</small><input name="" id="token" type="password"></label>
"""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
code, pre, input {{ font-family: ui-monospace, monospace; font-size: .9rem }}
label {{ display: grid; grid-template-columns: 10rem 8rem 1fr; gap: 1rem; align-items: center; margin: .5rem 0 }}
input {{ padding: .4rem }} button {{ padding: .5rem 1.2rem; font: inherit }}
pre {{ padding: 1rem; background: #8881; overflow: auto; white-space: pre-wrap }}
</style>
<h1>{title}</h1><p>{doc}</p><p><code>{verb} {path}</code> · <a href="openapi.json">openapi.json</a></p>
<form id="form" data-verb="{verb}" data-path="{path}">{fields}{token}<p><button>Send</button></p></form>
<pre id="answer" hidden></pre>
<script>
const form = document.getElementById("form"), answer = document.getElementById("answer");
form.onsubmit = async event => {{
  event.preventDefault();
  const verb = form.dataset.verb, headers = {{}}, said = {{}};
  for (const field of form.querySelectorAll("input[name]"))
    if (field.name && field.value !== "") said[field.name] = field.value;
  const token = document.getElementById("token");
  if (token && token.value) headers.authorization = "Bearer " + token.value;
  let url = form.dataset.path, body;
  if (["POST", "PUT", "PATCH"].includes(verb)) {{
    headers["content-type"] = "application/json";
    const meant = value => {{ try {{ return JSON.parse(value) }} catch {{ return value }} }};
    body = JSON.stringify(Object.fromEntries(Object.entries(said).map(([name, value]) => [name, meant(value)])));
  }} else url += "?" + new URLSearchParams(said);
  answer.hidden = false; answer.textContent = "…";
  const began = performance.now();
  try {{
    const response = await fetch(url, {{ method: verb, headers, body }});
    const text = await response.text();
    answer.textContent = response.status + " in " + Math.round(performance.now() - began) + " ms\\n\\n" + text;
  }} catch (error) {{ answer.textContent = String(error) }}
}};
</script></html>
"""
_GATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>relight</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
input { padding: .4rem } button { padding: .5rem 1.2rem; font: inherit }
</style>
<h1>This page needs a token</h1><p>One of this server, that may call.</p>
<form id="gate"><input id="token" type="password" autofocus required> <button>Open</button></form><pre id="refused"></pre>
<script>
const gate = document.getElementById("gate");
gate.onsubmit = async event => {
  event.preventDefault();
  const token = document.getElementById("token").value;
  const response = await fetch(location.href, { headers: { authorization: "Bearer " + token } });
  const text = await response.text();
  if (!response.ok) return void (document.getElementById("refused").textContent = text);
  document.open();
  document.write(text);
  document.close();
  document.getElementById("token").value = token;
};
</script></html>
"""
