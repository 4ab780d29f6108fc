#!/bin/sh
# Serves the stock's list; the repository's root is the working directory.
. packages/page/serve.sh
serve stock apps/stock/public
