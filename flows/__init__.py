"""When and where: each flow reads like the sentence it automates; what is done is `src/onestep`'s business."""
