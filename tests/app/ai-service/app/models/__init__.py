"""Tables. `app.models.audit` is the name that tools import."""
