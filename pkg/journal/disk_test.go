package journal

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// disk stands between SQLite and the system for the files of one folder: it
// sees what is synced, and can be full.
type disk struct {
	dir string
	mu  sync.Mutex
	// syncs counts the calls of fsync by file.
	syncs map[string]int
	// image is a folder that holds every file as it was when it was last synced:
	// what is sure to be there after a loss of power. "" = none is kept.
	image string
	full  bool
}

func watch(t *testing.T, dir string) *disk {
	t.Helper()
	d := &disk{dir: dir, syncs: map[string]int{}}
	disks.Store(dir, d)
	t.Cleanup(func() { disks.Delete(dir) })
	return d
}

// logSyncs is how often the log was synced since the last call.
func (d *disk) logSyncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.syncs[fileName+"-wal"]
	d.syncs = map[string]int{}
	return n
}

func (d *disk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

func (d *disk) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

func (d *disk) synced(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	d.syncs[name]++
	if d.image == "" {
		return
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.image, name), raw, 0o600)
	}
	// SQLite has removed its rollback journal, from before there was a log.
	if _, gone := os.Stat(filepath.Join(d.dir, fileName+"-journal")); gone != nil {
		_ = os.Remove(filepath.Join(d.image, fileName+"-journal"))
	}
	if err != nil {
		panic(err)
	}
}

// disks are the watched folders, by name; files the names of open files, by
// handle.
var disks, files sync.Map

func diskOf(handle uintptr) (d *disk, path string) {
	name, _ := files.Load(handle)
	path, _ = name.(string)
	if v, ok := disks.Load(filepath.Dir(path)); ok {
		return v.(*disk), path
	}
	return nil, path
}

// The system's own functions, behind ours.
var system struct {
	open  func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	write func(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32
	sync  func(tls *libc.TLS, file uintptr, flags int32) int32
}

// methods are the system's tables of functions with ours in them, by the address
// of the original: there are several, which differ in how they lock.
var methods = struct {
	sync.Mutex
	tables map[uintptr]*sqlite3.Tsqlite3_io_methods
}{tables: map[uintptr]*sqlite3.Tsqlite3_io_methods{}}

func xOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	rc := system.open(tls, vfs, name, file, flags, outFlags)
	table := &at[sqlite3.Tsqlite3_file](file).FpMethods
	if rc != sqlite3.SQLITE_OK || *table == 0 || name == 0 {
		return rc
	}
	files.Store(file, libc.GoString(name))
	methods.Lock()
	defer methods.Unlock()
	ours := methods.tables[*table]
	if ours == nil {
		ours = new(*at[sqlite3.Tsqlite3_io_methods](*table))
		system.write = function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](ours.FxWrite)
		system.sync = function[func(*libc.TLS, uintptr, int32) int32](ours.FxSync)
		ours.FxWrite, ours.FxSync = pointer(xWrite), pointer(xSync)
		methods.tables[*table] = ours
	}
	*table = uintptr(unsafe.Pointer(ours))
	return rc
}

func xWrite(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32 {
	if d, _ := diskOf(file); d != nil && d.isFull() {
		// Part of it finds room, as on a disk that is filling up.
		_ = system.write(tls, file, buf, n/2, offset)
		return sqlite3.SQLITE_FULL
	}
	return system.write(tls, file, buf, n, offset)
}

func xSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	rc := system.sync(tls, file, flags)
	if d, path := diskOf(file); d != nil && rc == sqlite3.SQLITE_OK {
		d.synced(path)
	}
	return rc
}

// at is what stands at an address of SQLite's memory.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// function and pointer turn the function pointers of the translated C code into
// Go functions and back.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) }

func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// vfs is SQLite's as long as the process lives.
var vfs sqlite3.Tsqlite3_vfs

func TestMain(m *testing.M) {
	tls := libc.NewTLS()
	name, err := libc.CString("watched")
	if err != nil {
		panic(err)
	}
	vfs = *at[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
	system.open = function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](vfs.FxOpen)
	vfs.FzName, vfs.FxOpen = name, pointer(xOpen)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(&vfs)), 1); rc != sqlite3.SQLITE_OK {
		panic(rc)
	}
	os.Exit(m.Run())
}
