"""What can be asked of the service, one file a topic."""

from oddsight.serve.routes import history, images, models, page, predict, status

ROUTERS = (status.router, models.router, predict.router, images.router, history.router, page.router)
