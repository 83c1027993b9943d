"""When and where: each flow reads like the sentence it automates; what is done is `src/onestep`'s business."""

from flows.logs import keep_secrets_out
from onestep.core.environment import settle

settle()
keep_secrets_out()  # here, because Prefect starts every flow by its own file, and all of them import this package
