#!/bin/sh
# The most frequent words of the Markdown files below a folder, one task per file:
#   words.sh DIR [OPTIONS OF jobtasks map]
folder=${1:?the folder to look at}
shift
find "$folder" -type f -name '*.md' -print0 | sort -z |
    jobtasks map --null "$@" "tr -cs '[:alpha:]' '\n' < {} | tr '[:upper:]' '[:lower:]'" - |
    grep . | sort | uniq -c | sort -k1,1nr -k2 | head -n 10
