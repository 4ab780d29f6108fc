# Shared by all apps: `serve NAME FOLDER` puts a folder on port 8080.
serve() {
    echo "$1 (${MODE:-production}) listening on 8080"
    exec httpd -f -p 8080 -h "$2"
}
