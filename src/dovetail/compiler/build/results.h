/* The memory of results: where nobody holds a result of an earlier call any more, the next one is
 * given the same memory, whose pages and caches are warm. Everybody has a tensor of their own over
 * it, so that one who holds it is seen: by the storage's count of uses, or, of who holds the
 * storage itself, by the count of its Python object. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
  PyObject *tensor, *storage, *number; /* number: the storage as its count of uses is asked for */
  void *address;
  long uses; /* and holders: of the storage while only this holds it */
  Py_ssize_t holders;
  int taken; /* a thread is at it, and what it calls may let others run */
} Result;

static PyObject *data_word, *data_ptr_name, *storage_name, *number_name;

static int result_names(void) {
  data_word = PyUnicode_InternFromString("data");
  data_ptr_name = PyUnicode_InternFromString("data_ptr");
  storage_name = PyUnicode_InternFromString("untyped_storage");
  number_name = PyUnicode_InternFromString("_cdata");
  return data_word && data_ptr_name && storage_name && number_name ? 0 : -1;
}

static void *address_of(PyObject *tensor) {
  PyObject *number = PyObject_CallMethodNoArgs(tensor, data_ptr_name);
  if (!number) return NULL;
  void *address = PyLong_AsVoidPtr(number);
  Py_DECREF(number);
  return address;
}

static void dropped(Result *kept) {
  Py_CLEAR(kept->tensor);
  Py_CLEAR(kept->storage);
  Py_CLEAR(kept->number);
}

/* How many hold the storage, or -1 and an error. */
static long uses_of(PyObject *count, const Result *kept) {
  PyObject *found = PyObject_CallOneArg(count, kept->number);
  if (!found) return -1;
  const long uses = PyLong_AsLong(found);
  Py_DECREF(found);
  return uses;
}

/* Whether only this holds the memory, which is still where it was; -1: an error. */
static int is_free(PyObject *count, const Result *kept) {
  if (Py_REFCNT(kept->storage) != kept->holders) return 0;
  const long uses = uses_of(count, kept);
  if (uses < 0) return -1;
  if (uses != kept->uses) return 0;
  const void *address = address_of(kept->tensor);
  return PyErr_Occurred() ? -1 : address == kept->address;
}

/* Keep `made`, which nobody has yet; returns 0, or -1 and an error. */
static int keep_result(PyObject *count, Result *kept, PyObject *made) {
  dropped(kept);
  kept->tensor = Py_NewRef(made);
  kept->address = address_of(made);
  if (PyErr_Occurred()) return -1;
  kept->storage = PyObject_CallMethodNoArgs(made, storage_name);
  if (!kept->storage) return -1;
  kept->number = PyObject_GetAttr(kept->storage, number_name);
  if (!kept->number) return -1;
  kept->holders = Py_REFCNT(kept->storage);
  kept->uses = uses_of(count, kept);
  return kept->uses < 0 ? -1 : 0;
}

static PyObject *made_by(PyObject *how) {
  return PyObject_Call(PyTuple_GET_ITEM(how, 0), PyTuple_GET_ITEM(how, 1),
                       PyTuple_GET_ITEM(how, 2));
}

static PyObject *taken_result(PyObject *count, Result *kept, PyObject *how) {
  const int is_there = kept->number ? is_free(count, kept) : 0;
  if (is_there < 0) return NULL;
  if (!is_there) {
    PyObject *made = made_by(how);
    if (!made) return NULL;
    const int failed = keep_result(count, kept, made);
    Py_DECREF(made);
    if (failed) {
      dropped(kept);
      return NULL;
    }
  }
  return PyObject_GetAttr(kept->tensor, data_word);
}

/* A tensor over memory that nobody holds, made by `how` where there is none. `count` counts uses.
 * Of threads that ask at the same time one has what is kept. */
static PyObject *take_result(PyObject *count, Result *kept, PyObject *how) {
  if (kept->taken) return made_by(how);
  kept->taken = 1;
  PyObject *own = taken_result(count, kept, how);
  kept->taken = 0;
  return own;
}

static void forget_result(Result *kept) {
  if (kept->taken) return;
  kept->taken = 1;
  dropped(kept);
  kept->taken = 0;
}
