#!/bin/sh
# The development command: the same server as in the image, on the files of this folder.
exec hello
