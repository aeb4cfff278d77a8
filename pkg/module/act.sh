# Changes what is at paths of the node. Each function does one thing, whole or not
# at all, and ends the script where it cannot. What is replaced is kept before,
# under its digest, so that an undo finds it.
kept=/var/lib/fleetd/kept
[ "$(id -u)" = 0 ] || kept=${HOME:-/nonexistent}/.fleetd/kept
tmp=
trap 'rm -f -- "$tmp" "$tmp.out" "$tmp.err"' EXIT
trap 'exit 1' HUP INT TERM

cannot() { printf '%s\n' "$*" >&2; exit 1; }
is() { # is FILE DIGEST
	[ -f "$1" ] && [ "$(sha256sum <"$1" | cut -c 1-64)" = "$2" ]
}
synced() { dd if=/dev/null of="$1" conv=notrunc,fsync 2>/dev/null; }
beside() { # beside PATH: an empty file in the same folder, in $tmp
	case $1 in
	/*/*) dir=${1%/*} ;;
	/*) dir=/ ;;
	*/*) dir=./${1%/*} ;;
	*) dir=. ;;
	esac
	tmp=$(mktemp -- "$dir/.fleetd.XXXXXX") || cannot "no file can be made in $dir"
}
moved() { # moved PATH: $tmp takes its place
	mv -f -T -- "$tmp" "$1" || cannot "cannot replace $1"
	tmp=
}

keep() { # keep DIGEST NAME PATH
	mkdir -p -m 700 -- "$kept" || cannot "cannot make $kept"
	is "$kept/$2" "$1" && return
	( umask 077 && cat <"$3" >"$kept/$2.$$" ) && is "$kept/$2.$$" "$1" && synced "$kept/$2.$$" &&
		mv -f -- "$kept/$2.$$" "$kept/$2" || cannot "cannot keep $3 as $kept/$2"
}
forget() { # forget NAME
	rm -f -- "$kept/$1"
	rmdir -- "$kept" 2>/dev/null
	return 0
}
put() { # put DIGEST MODE OWNER GROUP FROM PATH: FROM is a file; without one, standard input
	beside "$6"
	if [ -n "$5" ]; then cat <"$5"; else cat; fi >"$tmp" || cannot "cannot write $tmp"
	is "$tmp" "$1" || cannot "what was written is not what was sent: the file system may be full"
	if [ -n "$3" ]; then chown -- "$3" "$tmp" || cannot "chown failed"; fi
	if [ -n "$4" ]; then chgrp -- "$4" "$tmp" || cannot "chgrp failed"; fi
	chmod -- "$2" "$tmp" || cannot "chmod failed"
	fresh=y
	if [ -e "$6" ] && [ ! -L "$6" ]; then
		fresh=
		[ ! -d /sys/fs/selinux/booleans ] || chcon --reference="$6" -- "$tmp" || cannot "the SELinux context cannot be kept"
	fi
	synced "$tmp"
	valid >"$tmp.out" 2>"$tmp.err"
	rc=$?
	if [ "$rc" != 0 ]; then
		printf 'note invalid %s %s %s\n' "$rc" "$(hex <"$tmp.out")" "$(hex <"$tmp.err")"
		sees
		exit
	fi
	rm -f -- "$tmp.out" "$tmp.err"
	moved "$6"
	[ -z "$fresh" ] || [ ! -d /sys/fs/selinux/booleans ] || restorecon -- "$6"
}
valid() { :; }
backup() { # backup PATH COPY
	[ -e "$2" ] || cp -p -- "$1" "$2" || cannot "cannot copy $1 to $2"
}
make_dirs() { # make_dirs MODE OWNER GROUP PATH
	made=
	case $4 in /*) made=/ ;; esac
	rest=$4/
	while [ -n "$rest" ]; do
		part=${rest%%/*}
		rest=${rest#*/}
		[ -n "$part" ] || continue
		made=$made$part
		if [ ! -e "$made" ]; then
			mkdir -- "$made" || cannot "cannot make $made"
			if [ -n "$2" ]; then own "$2" "$made"; fi
			if [ -n "$3" ]; then group "$3" "$made"; fi
			if [ -n "$1" ]; then mode "$1" "$made"; fi
		fi
		made=$made/
	done
}
own() { chown -h -- "$1" "$2" || cannot "chown failed"; }
group() { chgrp -h -- "$1" "$2" || cannot "chgrp failed"; }
own_end() { chown -- "$1" "$2" || cannot "chown failed"; }
group_end() { chgrp -- "$1" "$2" || cannot "chgrp failed"; }
mode() { chmod -- "$1" "$2" || cannot "chmod failed"; }
create() { # create PATH
	[ -e "$1" ] || : >>"$1" || cannot "could not touch $1"
}
stamp() { touch "$@" || cannot "cannot set the times"; }
link() { # link TARGET PATH: in the place of what is there
	if [ -d "$2" ] && [ ! -L "$2" ]; then rmdir -- "$2" || cannot "cannot replace $2"; fi
	beside "$2"
	rm -f -- "$tmp" && ln -s -- "$1" "$tmp" || cannot "cannot link $2"
	moved "$2"
}
hard() { # hard FILE PATH
	beside "$2"
	rm -f -- "$tmp" && ln -- "$1" "$tmp" || cannot "cannot link $2"
	moved "$2"
}
drop() { # drop PATH
	rm -f -- "$1" || cannot "cannot remove $1"
}
drop_tree() { # drop_tree PATH
	rm -rf -- "$1" || cannot "cannot remove $1"
}
drop_dirs() { # drop_dirs TOP PATH: the empty folders from PATH up to TOP
	at=$2
	while [ -n "$at" ]; do
		rmdir -- "$at" 2>/dev/null || return 0
		[ "$at" != "$1" ] || return 0
		at=${at%/*}
	done
}
