"""The command tree."""

from cyclopts import App

from mainspring.cli import (
    audit,
    backup,
    data,
    endpoint,
    model,
    predict,
    project,
    run,
    serve,
    spool,
    up,
)

app = App(
    name="mainspring",
    help="The closed loop of machine learning in production, by itself and on the record.",
    version="0.1.0",
    help_format="plaintext",
)
app.command(project.init)
app.command(project.apply)
app.command(up.up)
app.command(up.down)
app.command(serve.serve)
app.command(predict.predict)
app.command(project.status)
app.command(project.config)
app.command(project.demo)
app.command(backup.backup)
app.command(backup.restore)
app.command(audit.trace)
app.command(audit.events)
app.command(audit.audit)
app.command(data.data)
app.command(run.run)
app.command(endpoint.endpoint)
app.command(model.model)
app.command(spool.spool)
