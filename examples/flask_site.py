"""A Flask site: four requests at once in each worker, in threads.

pip install 'relight[examples]'
relight deploy examples/flask_site.py
curl http://127.0.0.1:8700/w/flask_site/site/hello?name=you
"""

from typing import TYPE_CHECKING

import relight

if TYPE_CHECKING:
    from flask import Flask

app = relight.App()


@app.function()
@relight.wsgi_app(max_inputs=4)
def site() -> "Flask":
    from flask import Flask, request

    flask = Flask(__name__)

    @flask.get("/hello")
    def hello() -> dict[str, str]:
        return {"said": f"hello {request.args.get('name', 'you')}"}

    return flask
