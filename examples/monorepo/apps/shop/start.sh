#!/bin/sh
# Serves the shop's pages; the repository's root is the working directory.
. packages/page/serve.sh
serve "$SHOP_NAME" apps/shop/public
